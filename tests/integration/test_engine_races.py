"""What falls between an engine step's decision and the answer it waits for, and what goes wrong inside a step.

The operator's act counts, one thing that cannot be done stops no other, and nothing stays half done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from aogconsole import config, site, times
from aogconsole.engine.bench import Bench
from aogconsole.engine.checking import Checking
from aogconsole.engine.sending import Sending
from aogconsole.engine.staging import Staging
from aogconsole.errors import StorageError
from aogconsole.requests.request import State
from backends.ports import Committing, OutgoingMail, SendOutcome
from tests.support import outside
from tests.support.desk import MOUS
from tests.support.office import ENGINE, OTHER_MOUS, Office

CONFIG = """
[journal]
path = "journal.db"
syslog = ""
[staging]
host = ""
[policy]
stage = "{policy}"
send = "{policy}"
"""


@dataclass
class Shop:
    """A journal, its desk, and the engine's workbench on a scripted outside."""

    office: Office
    bench: Bench
    archive: outside.Archive = field(default_factory=outside.Archive)
    host: outside.Host = field(default_factory=outside.Host)
    outbox: outside.Outbox = field(default_factory=outside.Outbox)

    def __post_init__(self) -> None:
        self.bench.archive, self.bench.host, self.bench.outbox = self.archive, self.host, self.outbox
        self.bench.quicken = 100.0
        self.checking = Checking(self.bench)
        self.staging = Staging(self.bench, self.checking)
        self.sending = Sending(self.bench)

    def row(self, request: int) -> Any:
        """A request as it is."""
        return self.office.journal.fetch("request", request)

    async def until(self, true: Callable[[], Any]) -> Any:
        """Let the tasks go on until it is so."""
        async with asyncio.timeout(10):
            while not (found := true()):
                await asyncio.sleep(0.001)
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """With policies `ask`."""
    (tmp_path / "config.toml").write_text(CONFIG.format(policy="ask"))
    office = Office.open(tmp_path / "journal.db")
    return Shop(office, site.bench(config.load(tmp_path / "config.toml"), office.journal, ENGINE))


def once(act: Callable[[], object], wanted: str = "") -> outside.Meanwhile:
    """Do it at the first call, or at the first of this name."""
    done: list[str] = []

    def meanwhile(call: str) -> None:
        if not done and call.startswith(wanted):
            done.append(call)
            act()

    return meanwhile


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
