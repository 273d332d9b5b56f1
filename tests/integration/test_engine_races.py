"""What falls between an engine step's decision and the answer it waits for, and what goes wrong inside a step.

The operator's act counts, one thing that cannot be done stops no other, and nothing stays half done.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from email import message_from_bytes, policy
from typing import Any

import pytest

from aogconsole import times, views
from aogconsole.engine.loop import Engine
from aogconsole.engine.reading import Reading
from aogconsole.errors import MailError, StagingError, StorageError
from aogconsole.mailparser import MailParser
from aogconsole.mailroom import MailRoom, Taken
from aogconsole.requests.intake import IntakeRules
from aogconsole.requests.mail import ParsedMail
from aogconsole.requests.request import State
from backends.ports import Committing, OutgoingMail, RemoteRun, SendOutcome, StagedDirectory
from tests.support import outside
from tests.support.desk import MOUS, request_mail
from tests.support.office import ENGINE, OTHER_MOUS, RULES, URL
from tests.support.shop import Shop, once


def queued(shop: Shop, checked: str = "") -> int:
    """A queued request, checked today unless another time is given."""
    request = shop.office.request(State.QUEUED)
    shop.office.set(request, State.QUEUED, checked_at=checked or times.now_text())
    return request


def corrected(shop: Shop, request: int) -> None:
    """An operator puts another MOUS in, and it is checked and queued at once."""
    shop.office.desk.correct(request, "it was the other one", mous=OTHER_MOUS)
    shop.office.set(request, State.QUEUED, verdict="entitled", checked_at=times.now_text())


async def test_a_request_corrected_while_the_host_is_asked_is_staged_as_corrected(shop: Shop) -> None:
    """The run is planned from what the request is now, not from what the queue was when the step began."""
    request = queued(shop)
    shop.host.meanwhile = once(lambda: corrected(shop, request), "list")
    await shop.staging.step()
    await shop.until(lambda: shop.host.started)
    assert [mous for _, mous, _ in shop.host.started] == [OTHER_MOUS]
    await shop.staging.let_go()


async def test_an_answer_about_what_was_corrected_meanwhile_counts_for_nothing(shop: Shop) -> None:
    """The check before staging asked about the old MOUS: neither its verdict nor its facts reach the request."""
    request = queued(shop, "2020-01-01T00:00:00Z")
    versions = []

    def correct() -> None:
        corrected(shop, request)
        versions.append(shop.row(request)["version"])

    shop.archive.meanwhile = once(correct)
    await shop.staging.step()
    assert shop.archive.asked == [MOUS]
    assert [shop.row(request)["version"]] == versions
    await shop.staging.step()
    await shop.until(lambda: shop.host.started)
    assert [mous for _, mous, _ in shop.host.started] == [OTHER_MOUS]
    await shop.staging.let_go()


async def test_a_stop_asked_while_a_start_is_under_way_reaches_a_run_that_found_no_slot(shop: Shop) -> None:
    """It does not wait for a slot to become free: the run ends as never started, the request is held."""
    request = queued(shop)
    shop.host.busy = True

    def stop() -> None:
        (run,) = shop.office.journal.all("select id from run where state = 'starting'")
        shop.office.desk.stop(run["id"], "not now")

    shop.host.meanwhile = once(stop, "start")
    await shop.staging.step()
    await shop.until(lambda: shop.row(request)["state"] == State.HELD)
    (run,) = shop.office.journal.all("select * from run")
    assert run["state"] == "stopped"
    assert "bob@aog2: not now" in shop.row(request)["why"]
    await shop.staging.let_go()


async def test_a_run_that_found_no_slot_ends_when_its_request_is_refused_after_all(shop: Shop) -> None:
    """No run waits for a request that has gone another way: by the engine's next check, or by a person."""
    for refuse in (
        lambda request: shop.office.desk.refuse(request, "not_delivered", "withdrawn"),
        lambda request: shop.office.desk.stop(shop.office.journal.all("select max(id) from run")[0][0], "no"),
    ):
        request = queued(shop)
        run = shop.office.run(request, "starting")
        shop.office.set(request, State.UNCLEAR)
        refuse(request)
        assert shop.office.journal.fetch("run", run)["state"] == "stopped"
    request = queued(shop, "2020-01-01T00:00:00Z")
    run = shop.office.run(request, "starting")
    shop.office.set(request, State.QUEUED, account="nobody")

    class Deserted(outside.Archive):
        async def ask(self, *words: Any) -> Any:
            answer = await super().ask(*words)
            rows = tuple(row for row in answer.rows if row.fact != "account")
            return type(answer)(rows, answer.query_version, answer.took_ms)

    shop.bench.archive = Deserted()
    await shop.staging.step()
    assert shop.row(request)["state"] == State.REFUSED
    assert shop.office.journal.fetch("run", run)["state"] == "stopped"
    assert shop.office.problems() == []


async def test_a_check_whose_verdict_could_not_be_written_is_made_again(shop: Shop) -> None:
    """A journal that takes nothing ends the step; the next one asks again, without a restart."""
    request, other = shop.office.receive(), shop.office.receive(mous=OTHER_MOUS)

    journal = shop.office.journal.connection
    shop.archive.meanwhile = once(lambda: journal.execute("pragma query_only = on"))
    with pytest.raises(StorageError):
        await shop.checking.step()
    assert shop.row(request)["state"] == State.CHECKING
    journal.execute("pragma query_only = off")
    await shop.checking.step()
    assert {shop.row(one)["state"] for one in (request, other)} == {State.ENTITLED}
    assert shop.office.problems() == []


async def test_a_request_that_cannot_be_checked_stops_no_other(shop: Shop) -> None:
    """What breaks the check of one request puts that one before a person; all the others get their verdict."""
    broken, *others = [shop.office.receive() for _ in range(6)]
    shop.office.set(broken, State.RECEIVED, project="no project")
    await shop.checking.step()
    assert shop.row(broken)["state"] == State.UNCLEAR
    assert "checking it went wrong" in shop.row(broken)["why"]
    assert {shop.row(one)["state"] for one in others} == {State.ENTITLED}
    await shop.checking.step()
    assert shop.row(broken)["state"] == State.UNCLEAR


def approved(shop: Shop, state: State = State.REFUSED) -> tuple[int, int]:
    """A request and its letter, which may go."""
    request = shop.office.request(state)
    letter = shop.office.letter(request)
    shop.office.desk.approve(letter)
    return request, letter


async def test_a_letter_discarded_while_we_connect_does_not_go(shop: Shop) -> None:
    """Nor does one whose request was put aside: what the operator did until the last moment counts."""
    _, first = approved(shop)
    shop.outbox.meanwhile = once(lambda: shop.office.desk.discard(first), "connect")
    await shop.sending.step()
    request, second = approved(shop)
    shop.outbox.meanwhile = once(lambda: shop.office.desk.hold(request, "wait"), "connect")
    await shop.sending.step()
    states = [shop.office.journal.fetch("letter", letter)["state"] for letter in (first, second)]
    assert (states, shop.outbox.sent) == (["discarded", "approved"], [])


@pytest.mark.parametrize("moment", ["connect", "answer"])
async def test_a_letter_that_breaks_its_sending_stops_no_other(shop: Shop, moment: str) -> None:
    """Before the handing over it was surely not sent, after it that is not sure; the next letter goes."""
    request, letter = approved(shop)
    _, other = approved(shop)

    def fault() -> None:
        raise ZeroDivisionError("a fault of ours")

    shop.outbox.meanwhile = once(fault, moment)
    await shop.sending.step()
    expected = {"connect": "refused", "answer": "ambiguous"}[moment]
    assert shop.office.journal.fetch("letter", letter)["state"] == expected
    assert shop.office.journal.fetch("letter", other)["state"] == "sent"
    assert shop.row(request)["state"] == State.UNCLEAR
    assert "a fault of ours" in shop.row(request)["why"]


@pytest.mark.parametrize("moment", ["fix", "answer"])
async def test_a_journal_that_takes_nothing_costs_no_letter(shop: Shop, moment: str) -> None:
    """Before the sending the letter just waits; after it the outcome is kept, and written when that is possible."""
    _, letter = approved(shop)
    journal = shop.office.journal.connection
    if moment == "fix":
        journal.execute("pragma query_only = on")
    shop.outbox.meanwhile = once(lambda: journal.execute("pragma query_only = on"), "answer")
    with pytest.raises(StorageError):
        await shop.sending.step()
    expected = {"fix": "approved", "answer": "sending"}[moment]
    assert shop.office.journal.fetch("letter", letter)["state"] == expected
    journal.execute("pragma query_only = off")
    shop.outbox.meanwhile = outside.nothing
    await shop.sending.step()
    assert shop.office.journal.fetch("letter", letter)["state"] == "sent"
    assert len(shop.outbox.sent) == 1
    assert shop.office.problems() == []


async def test_a_stop_leaves_a_letter_on_its_way_the_time_to_be_answered(shop: Shop) -> None:
    """The server's answer is recorded before the engine ends: a stop alone makes no letter ambiguous."""
    _, letter = approved(shop)
    handed, answered = asyncio.Event(), asyncio.Event()

    class Slow(outside.Outbox):
        async def send(self, mail: OutgoingMail, committing: Committing) -> SendOutcome:
            outcome = await super().send(mail, committing)
            handed.set()
            await answered.wait()
            return outcome

    shop.bench.outbox = Slow()
    step = asyncio.create_task(shop.sending.step())
    await handed.wait()
    step.cancel()
    await asyncio.sleep(0)
    assert not step.done()
    answered.set()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert shop.office.journal.fetch("letter", letter)["state"] == "sent"


async def test_a_huge_output_is_attached_without_holding_anybody_up(shop: Shop) -> None:
    """The journal keeps the text only; the loop goes on turning while the letter is written."""
    request = shop.office.receive()
    shop.office.set(request, State.FAILED)
    run = shop.office.run(request, "failed")
    output = b"2026-11-21 14:02:11 INFO hifa_bandpass and so on\n" * 200_000
    (shop.office.journal.runs / f"{run}.log").write_bytes(output)
    letter = shop.office.book.draft(request, "expert", run)
    shop.office.desk.approve(letter)
    assert len(shop.office.journal.fetch("letter", letter)["draft"]) < 2_000_000
    turns = 0
    step = asyncio.create_task(shop.sending.step())
    while not step.done():
        await asyncio.sleep(0.005)
        turns += 1
    await step
    (sent,) = shop.outbox.sent
    (attached,) = message_from_bytes(sent.data, policy=policy.default).iter_attachments()
    assert attached.get_content() == output
    assert turns > 10


def staged(shop: Shop, deleted_on: str = "2099-01-01") -> int:
    """A run whose data are there; its directory's name is its own."""
    request = shop.office.request(State.CLOSED)
    run = shop.office.run(request, "succeeded", deleted_on)
    shop.office.journal.connection.execute("update run set url = ? where id = ?", (f"http://host/{run:032x}", run))
    return run


@pytest.mark.parametrize(("ended_ago", "left"), [(None, 28), (0, 28), (5 * 86400, 23), (10**18 - 1, None)])
async def test_the_days_of_a_run_are_what_its_host_leaves_of_them(
    shop: Shop, ended_ago: int | None, left: int | None
) -> None:
    """One that does not tell how long ago the run ended says that it just has; nonsense does not hold the run open."""
    request = queued(shop)
    row = shop.row(request)
    done = f"Staging of calibrated MS(s) for {row['project']} {row['mous']} helpdesk ticket #{row['ticket']} completed"
    output = f"The staging directory will be accessible at {URL}\n{done}\nat {URL}\n".encode()

    class Over(outside.Host):
        async def status(self, token: str) -> RemoteRun:
            return RemoteRun(token, "exited", len(output), 0, ended_ago=ended_ago)

        async def log(self, token: str, offset: int) -> AsyncIterator[bytes]:
            yield output[offset:]

    shop.bench.host = Over()
    await shop.staging.step()
    await shop.until(lambda: shop.row(request)["state"] == (State.STAGED if left else State.UNCLEAR))
    (run,) = shop.office.journal.all("select * from run")
    days = shop.office.book.days_left(run)
    assert days == left if left else days is not None and days < 0
    assert len(shop.office.letters(request)) == bool(left)
    await shop.staging.let_go()


async def test_keep_asked_otherwise_while_it_is_done_is_done_otherwise(shop: Shop) -> None:
    """What an operator asks for during the call is not taken for done."""
    run = staged(shop)
    shop.office.desk.keep(run)
    shop.host.meanwhile = once(lambda: shop.office.desk.keep(run, off=True))
    await shop.retention.step()
    await shop.retention.step()
    assert shop.host.kept == [(f"{run:032x}", True), (f"{run:032x}", False)]
    assert not shop.office.journal.fetch("run", run)["kept"]


async def test_a_directory_that_cannot_be_kept_stops_no_other(shop: Shop) -> None:
    """The others are kept, warned of and told as gone; it is told as gone itself when its day is over."""
    broken, other, over = staged(shop, "2020-01-01"), staged(shop), staged(shop, "2020-01-01")
    shop.office.desk.keep(broken)
    shop.office.desk.keep(other)

    def missing(call: str) -> None:
        if call == f"keep {broken:032x}":
            raise StagingError("there is no such directory")

    shop.host.meanwhile = missing
    with pytest.raises(StagingError):
        await shop.retention.step()
    rows = {run: shop.office.journal.fetch("run", run) for run in (broken, other, over)}
    assert {run: (row["kept"], row["gone"], row["keep_wanted"]) for run, row in rows.items()} == {
        broken: (0, 1, None), other: (1, 0, None), over: (0, 1, None),
    }  # fmt: skip


async def test_data_whose_day_is_over_are_not_asked_for_at_every_turn(shop: Shop) -> None:
    """The step runs whenever anything changes; the host is asked now and then."""
    run = staged(shop, "2020-01-01")
    shop.host.there = (StagedDirectory(f"{run:032x}", kept=False),)
    for _ in range(5):
        await shop.retention.step()
    assert shop.host.asked_for_staged == 1


async def test_a_mark_put_there_by_hand_is_seen(shop: Shop) -> None:
    """As the staging command's last line asks: no warning then; when it is taken away there is one."""
    run = staged(shop, "2020-01-01")
    for mark in (True, False):
        shop.host.there = (StagedDirectory(f"{run:032x}", kept=mark),)
        shop.retention._look_at = 0
        await shop.retention.step()
        row = shop.office.journal.fetch("run", run)
        assert (row["kept"], row["warned"], row["gone"]) == (int(mark), int(not mark), 0)
    told = [row["why"] for row in shop.office.journal.all("select why from history where verb in ('kept', 'not_kept')")]
    assert told == [f"its .donotremove was {what} on the staging host" for what in ("put there", "taken away")]
    assert not shop.host.kept


async def test_what_is_asked_for_during_the_look_is_done(shop: Shop) -> None:
    """What the host said before is older than what an operator wants."""
    run = staged(shop)
    shop.host.there = (StagedDirectory(f"{run:032x}", kept=True),)
    answer = shop.host.staged

    async def meanwhile() -> tuple[StagedDirectory, ...]:
        shop.office.desk.keep(run, off=True)
        return await answer()

    shop.host.staged = meanwhile  # type: ignore[method-assign]
    await shop.retention.step()
    row = shop.office.journal.fetch("run", run)
    assert (row["kept"], row["keep_wanted"]) == (0, 0)


async def test_a_mail_that_trips_us_up_stops_no_other(shop: Shop) -> None:
    """It comes before a person with what its headers say; the mails after it are taken."""

    class Tripping(MailRoom):
        def take(self, source: str, received_at: datetime, raw: bytes, parsed: ParsedMail) -> Taken:
            if parsed.text and b"broken" in raw:
                raise ZeroDivisionError("a fault of ours")
            return super().take(source, received_at, raw, parsed)

    rules = IntakeRules(RULES.address, RULES.senders)
    shop.bench.room = Tripping(shop.office.journal, ENGINE, rules)
    shop.bench.inbox = inbox = outside.Inbox()
    inbox.mails = {"imap:1:1": request_mail(message_id="<broken@eso.org>"), "imap:1:2": request_mail(ticket="2")}
    async with MailParser() as parser:
        await Reading(shop.bench, parser).step()
    first, second = shop.office.journal.all("select * from mail order by id")
    assert (first["message_id"], second["result"]) == ("<broken@eso.org>", "request")
    assert "a fault of ours" in shop.row(first["request"])["why"]
    assert shop.row(second["request"])["state"] == State.RECEIVED


async def test_a_mail_that_could_not_be_read_is_not_left_behind(shop: Shop) -> None:
    """The cursor passes nothing that is still to be read, whatever was read after it, by this engine or the next."""
    shop.bench.inbox = inbox = outside.Inbox()
    inbox.mails = {f"imap:1:{number}": request_mail(ticket=str(number)) for number in (1, 2, 3)}
    inbox.unreadable = {"imap:1:2"}
    async with MailParser() as parser:
        with pytest.raises(MailError):
            await Reading(shop.bench, parser).step()
        assert len(shop.office.journal.all("select 1 from mail")) == 2
        inbox.unreadable = set()
        await Reading(shop.bench, parser).step()
        assert len(shop.office.journal.all("select 1 from mail")) == 3
        await Reading(shop.bench, parser).step()
    assert inbox.cursors[:2] == ["", ""]


async def test_a_clock_that_was_wrong_holds_nothing_up(shop: Shop) -> None:
    """A next try far in the future was written by a clock that has been put right since: it is due."""
    request, letter = approved(shop)
    waits = queued(shop)
    for kind, ident, when in (("letter", letter, "2099-01-01T00:00:00Z"), ("request", waits, "2099-01-01T00:00:00Z")):
        shop.office.journal.connection.execute(f"update {kind} set next_try = ? where id = ?", (when, ident))  # noqa: S608
    await shop.sending.step()
    await shop.staging.step()
    assert (shop.row(request)["state"], shop.row(waits)["state"]) == (State.CLOSED, State.STAGING)
    await shop.staging.let_go()


async def test_what_was_put_aside_is_released_and_what_failed_is_run_again(shop: Shop) -> None:
    """The next action of a held request says why it is held, also when it has a run."""
    aside, failed = shop.office.request(State.STAGED), shop.office.request(State.HELD)
    shop.office.desk.hold(aside, "wait for the user")
    told = {one["id"]: one["next_action"] for one in views.request_lines(shop.office.journal)}
    assert told == {str(aside): "release", str(failed): "rerun"}
    assert views.one_request(shop.office.journal, aside)["next_action"] == "release"


async def test_no_run_is_started_onto_a_full_disk_of_ours(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its output could not be kept: the request waits, and says for what."""
    request = queued(shop)
    monkeypatch.setattr("aogconsole.engine.staging.ROOM", 1 << 60)
    await shop.staging.step()
    assert "is full; make room there" in shop.row(request)["why"]
    monkeypatch.undo()
    await shop.staging.step()
    assert shop.row(request)["state"] == State.STAGING
    await shop.staging.let_go()


async def test_a_loop_that_recovers_says_so_and_nothing_else(shop: Shop) -> None:
    """A connection that its step reported is fine again with the step; one found broken by others stays so."""
    bench = shop.bench
    bench.seen("retention", False, "the disk was full")
    bench.seen("archive", False, "refused")
    for name in ("retention", "archive"):
        bench.recovered(name, "the disk was full")
    rows = bench.journal.all("select name, ok from connection order by name")
    assert [tuple(row) for row in rows] == [("archive", 0), ("retention", 1)]


async def test_a_fault_that_an_earlier_engine_told_is_taken_back(shop: Shop) -> None:
    """By the first step of retention that goes well; not while the engine is paused, for then it asks nobody."""
    bench, journal = shop.bench, shop.office.journal
    bench.inbox = outside.Inbox()
    bench.seen("retention", False, "the staging host does not answer")
    bench.seen("archive", False, "refused")
    shop.office.desk.pause()
    engine = asyncio.create_task(Engine(bench).run())
    await shop.until(lambda: journal.one("select 1 from connection where name = 'staging' and ok"))
    assert bench.broken("retention")
    shop.office.desk.pause(on=False)
    await shop.until(lambda: not bench.broken("retention"))
    assert bench.broken("archive") == "refused", "nobody has asked it since"
    engine.cancel()
    with pytest.raises(asyncio.CancelledError):
        await engine


async def test_the_engine_goes_on_after_a_fault_in_one_step(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that went wrong is tried again, its connection is told broken and fine again; the others go on."""
    request, letter = approved(shop)
    shop.bench.inbox = outside.Inbox()
    shop.host.meanwhile = once(lambda: (_ for _ in ()).throw(ZeroDivisionError("a fault of ours")), "list")
    waits = queued(shop)
    engine = asyncio.create_task(Engine(shop.bench).run())
    await shop.until(lambda: shop.row(waits)["state"] == State.STAGING and shop.row(request)["state"] == State.CLOSED)
    fine = "select 1 from connection where name = 'staging' and ok"
    await shop.until(lambda: shop.office.journal.one(fine))
    engine.cancel()
    with pytest.raises(asyncio.CancelledError):
        await engine
    assert shop.office.journal.fetch("letter", letter)["state"] == "sent"
