"""The crash sweep: the engine is killed at every place of its way, resumed, and the invariants hold (reliability F1).

Places are before, in and after every commit of the journal and every call to the outside (see driver.py). With
AOG_CRASH_SWEEP=full an engine is killed at every place that a whole run comes to, each time resumed and looked at
(minutes). By default each kind of place in and after something is the end of one engine, and the next one is
killed too: what they leave is resumed and looked at once.
"""

from __future__ import annotations

import email
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from email.policy import default as rules
from pathlib import Path
from typing import Any

import pytest

from aogconsole import views
from aogconsole.engine.loop import PROGRESSING
from aogconsole.journal import history
from aogconsole.journal.store import Journal
from tests.crash.driver import Driver
from tests.support.desk import MOUS, STAGECALMS, Desk, request_mail
from tests.support.oracle import TestArchive
from tests.support.smtp import SmtpServer, smtp_server
from tests.support.sshd import StagingSite

FULL = os.environ.get("AOG_CRASH_SWEEP") == "full"
LANES = 3
"""Sites side by side: an engine mostly waits."""
KILLED = -9
COUNTED = STAGECALMS.replace("seq 1 40", "seq 1 8").replace(
    'echo $$ >> "$HOME/calls.$3"',
    'echo $$ >> "$HOME/calls.$3"\necho + >> "$HOME/moments"\ntrap \'echo - >> "$HOME/moments"\' EXIT',
)
"""Takes a moment, and writes down when it begins and ends."""
DAY = {
    "94": ("pi1", "closed", "link", 1),
    "90": ("pi1", "held", "expert", 1),
    "96": ("other", "closed", "not_entitled", 0),
}
"""The requests that are on their way when the engine is killed, by the ticket's end: the user, and what is to come of
it: the request's state, its letter, and how often stagecalms was started."""


def lane(folder: Path, site: StagingSite, archive: TestArchive) -> Desk:
    """A site with a journal, a mailbox and a staging host of its own."""
    folder.mkdir()
    site.install(COUNTED)
    made = Desk(folder, site, archive)
    made.configure()
    made.deliver()
    return made


def send_day(desk: Desk, number: int) -> None:
    """The day's requests arrive."""
    desk.deliver(*(request_mail(ticket=f"{number}{end}", account=user) for end, (user, *_) in DAY.items()))


def driver_of(desk: Desk) -> Driver:
    """A driver for a site."""
    return Driver(desk.config, desk.environment, desk.folder / "driver.log")


def faults(desk: Desk, number: int) -> list[str]:
    """Sentences on every invariant that does not hold for a day's requests, and for the journal as a whole."""
    with closing(Journal.open(desk.folder / "state" / "journal.db", read_only=True)) as journal:
        found = [f"history: {wrong}" for wrong in history.verify(journal.connection)]
        if journal.all(PROGRESSING)[0][0]:
            found.append("something is still on its way, and nobody is at it")
        if len(journal.all("select id from mail")) != desk.delivered:
            found.append("a mail is not accounted for, or twice")
        for end in DAY:
            found += request_faults(desk, journal, f"{number}{end}")
    return [*found, *slot_faults(desk)]


def request_faults(desk: Desk, journal: Journal, ticket: str) -> Iterable[str]:
    """The same for one request."""
    user, state, kind, starts = DAY[ticket[-2:]]
    requests = views.requests(journal, ticket=ticket)
    if [(one["state"], one["next_action"] is None) for one in requests] != [(state, state == "closed")]:
        yield f"{ticket}: {[(one['state'], one['why'], one['next_action']) for one in requests]}, not {state}"
        return
    if desk.calls(ticket) != starts:
        yield f"{ticket}: stagecalms was started {desk.calls(ticket)} times"
    letters = [one for one in views.letters(journal) if one["request"] == requests[0]["id"]]
    if [(one["kind"], one["state"]) for one in letters] != [(kind, "sent")]:
        yield f"{ticket}: letters {letters}"
    replies = [email.message_from_bytes(raw, policy=rules) for raw in desk.filed()]
    filed = [one for one in replies if one["In-Reply-To"] == f"<{MOUS}.{user}.{ticket}@eso.org>"]
    if len(filed) != 1:
        yield f"{ticket}: {len(filed)} letters were filed"
    runs = [one for one in views.runs(journal) if one["request"] == requests[0]["id"]]
    if len(runs) != starts:
        yield f"{ticket}: runs {runs}"
    for run in runs:
        log = (journal.runs / f"{run['id']}.log").read_bytes()
        if log != desk.host.run_log(run["token"]):
            yield f"{ticket}: the log is not that of the staging host"
        if kind == "link" and f"completed\nat {run['url']}\n".encode() not in log:
            yield f"{ticket}: a link was sent that the completion block has not"
        if kind == "link" and run["url"] not in str(filed[0].get_payload()):
            yield f"{ticket}: the letter's link is not the run's"


def slot_faults(desk: Desk) -> Iterable[str]:
    """Whether more than two stagecalms ever ran at once, as they wrote it down themselves."""
    now = most = 0
    for moment in (desk.host.home / "moments").read_text().split():
        now += 1 if moment == "+" else -1
        most = max(most, now)
    if most > 2 or now:
        yield f"{most} stagecalms ran at once, and {now} did not end"


def ends_of(places: Sequence[str]) -> list[str]:
    """The places to die at: all; or one of each kind, not always the first, without what is before something."""
    if FULL:
        return list(places)
    often = Counter(place.rpartition(" #")[0] for place in places)
    kinds = [(kind, count) for kind, count in often.items() if not kind.endswith("before")]
    return [f"{kind} #{1 + number % min(count, 2)}" for number, (kind, count) in enumerate(kinds)]


def sweep(desk: Desk, ends: Sequence[tuple[int, str]]) -> tuple[list[str], list[str]]:
    """Die at each place on a new day, and resume. What is wrong then, and the places that no engine came to."""
    wrong, missed = [], []
    with driver_of(desk) as driver:
        for chain in [[end] for end in ends] if FULL else [ends]:
            for number, end in chain:
                send_day(desk, number)
                if driver.run(end)[0] != KILLED:
                    missed.append(end)
            resumed, _ = driver.run()
            found = [fault for number, _ in chain for fault in faults(desk, number)]
            if found or resumed:
                wrong.append(f"killed at {chain} the last engine ended with {resumed}: {found}")
    return wrong, missed


@pytest.mark.timeout(7200 if FULL else 300)
def test_killed_at_any_place_the_engine_goes_on_as_if_nothing_had_been(
    tmp_path: Path, new_staging_site: Callable[..., StagingSite], archive: TestArchive
) -> None:
    """One stagecalms, one letter, the whole log, the right states and a sound history, wherever it was killed."""
    desks = [lane(tmp_path / f"lane{number}", new_staging_site(), archive) for number in range(LANES)]
    send_day(desks[0], 1)
    with driver_of(desks[0]) as driver:
        status, places = driver.run()
    assert (status, faults(desks[0], 1)) == (0, [])
    ends = list(enumerate(ends_of(places), start=2))
    with ThreadPoolExecutor(LANES) as pool:
        results = list(pool.map(sweep, desks, [ends[number::LANES] for number in range(LANES)]))
    assert [wrong for found, _ in results for wrong in found] == []
    missed = [end for _, found in results for end in found]
    assert len(missed) < len(ends) / 5, missed


def test_killed_while_it_does_what_an_operator_asked_for(
    tmp_path: Path, staging_site: StagingSite, archive: TestArchive
) -> None:
    """The next engine stops the run and holds its request, and puts a .donotremove there or takes it out."""
    desk = lane(tmp_path / "lane", staging_site, archive)
    send_day(desk, 1)
    with driver_of(desk) as driver:
        assert driver.run()[0] == 0
        (staged,) = desk.json("staged")
        mark = desk.host.web_root / staged["url"].rpartition("/")[2] / ".donotremove"
        keeps = ["host.keep inside", "commit not_kept inside", "host.keep after"]
        for kept, end in zip([True, False, True], keeps, strict=True):
            desk.call("keep", staged["run"], *([] if kept else ["--off"]))
            assert driver.run(f"{end} #1")[0] == KILLED
            assert driver.run()[0] == 0
            assert (mark.exists(), desk.json("staged")[0]["kept"]) == (kept, kept), end
        for ticket, end in (("193", "host.stop inside"), ("293", "commit stopped+stopped inside")):
            desk.deliver(request_mail(ticket=ticket))
            assert driver.run("commit started after #1")[0] == KILLED
            desk.call("stop", desk.requests()[ticket]["run"], "--why", "a mistake")
            assert driver.run(f"{end} #1")[0] == KILLED
            assert driver.run()[0] == 0
            request = desk.requests()[ticket]
            run = desk.json("run", request["run"])
            assert (request["state"], request["next_action"], run["state"]) == ("held", "rerun", "stopped"), end
            assert "a mistake" in request["why"]
            assert (desk.calls(ticket), request["letters"]) == (1, [])
            assert desk.call("log", run["id"], "--raw").stdout == desk.host.run_log(run["token"])
    assert faults(desk, 1) == []


def test_an_engine_that_forgets_the_token_is_caught(
    tmp_path: Path, staging_site: StagingSite, archive: TestArchive
) -> None:
    """With a new token after a crash stagecalms is started twice, and the sweep's check says so."""
    desk = lane(tmp_path / "lane", staging_site, archive)
    send_day(desk, 1)
    with driver_of(desk) as driver:
        assert driver.run("host.start after #1", broken="token")[0] == KILLED
        driver.run(broken="token")
    assert any("stagecalms was started 2 times" in wrong for wrong in faults(desk, 1))


# ── a mail server cannot be asked whether it has a letter ────────────────────────────────────────────────────────

CERTAIN = ("commit fix inside", "outbox.send before", "commit sending before")
"""Killed here the letter cannot have gone: it is sent."""
DOUBTFUL = ("commit sending after", "outbox.send after", "commit sent+answered before")
"""Killed here it may have gone: a person decides."""
EITHER = ("commit sending inside", "commit sent+answered inside")


def mail_site(folder: Path, site: StagingSite, archive: TestArchive, server: SmtpServer) -> Desk:
    """A site that sends its letters to a mail server."""
    desk = lane(folder, site, archive)
    replaced: dict[str, Any] = {"maildir:outbox": f"smtp://127.0.0.1:{server.port}"}
    desk.configure(**replaced)
    return desk


def outcome(desk: Desk, ticket: str) -> tuple[str, str]:
    """State of the request, and of its letter."""
    with closing(Journal.open(desk.folder / "state" / "journal.db", read_only=True)) as journal:
        assert history.verify(journal.connection) == []
        (request,) = views.requests(journal, ticket=ticket)
        (letter,) = [one for one in views.letters(journal) if one["request"] == request["id"]]
        return request["state"], letter["state"]


def accepted(server: SmtpServer, ticket: str) -> int:
    """How often the server took the letter that answers a ticket's mail."""
    return sum(f".{ticket}@eso.org>".encode() in letter.data for letter in server.accepted)


def test_killed_around_the_final_dot_a_letter_never_goes_twice(
    tmp_path: Path, staging_site: StagingSite, archive: TestArchive
) -> None:
    """Before the letter may have gone: sent once. After that: ambiguous, and the request waits for a person."""
    ends = [(f"{kind} #1", 0.0) for kind in (*CERTAIN, *DOUBTFUL, *EITHER)]
    ends += [("outbox.send inside #1", 0.006 * step) for step in range(1, 4)]
    with smtp_server() as server:
        desk = mail_site(tmp_path / "lane", staging_site, archive, server)
        with driver_of(desk) as driver:
            for number, (end, delay) in enumerate(ends, start=1):
                ticket = f"{number}96"
                desk.deliver(request_mail(ticket=ticket, account="other"))
                status, places = driver.run(end, delay=delay)
                assert status == KILLED, (end, "\n".join(places))
                assert driver.run()[0] == 0, end
                states, times = outcome(desk, ticket), accepted(server, ticket)
                kind = end.rpartition(" #")[0]
                assert states in (("closed", "sent"), ("unclear", "ambiguous")), end
                if states == ("closed", "sent"):
                    assert times == 1, end
                    assert kind not in DOUBTFUL
                else:
                    assert times <= 1, end
                    assert kind not in CERTAIN
            driver.run()
        assert max(accepted(server, f"{number}96") for number in range(1, len(ends) + 1)) == 1
        assert accepted(server, f"{1 + ends.index(('outbox.send after #1', 0.0))}96") == 1


def test_an_engine_that_trusts_the_mail_server_is_caught(
    tmp_path: Path, staging_site: StagingSite, archive: TestArchive
) -> None:
    """Taking a letter that was being sent for one that has not gone sends it twice, and the count shows it."""
    with smtp_server() as server:
        desk = mail_site(tmp_path / "lane", staging_site, archive, server)
        desk.deliver(request_mail(ticket="196", account="other"))
        with driver_of(desk) as driver:
            assert driver.run("outbox.send after #1", broken="certain")[0] == KILLED
            driver.run(broken="certain")
        assert accepted(server, "196") == 2
