"""Letters by the command: reading, editing, letting them go, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from aogconsole import config, site, times
from aogconsole.engine.sending import Sending
from aogconsole.journal.store import Journal
from aogconsole.requests.request import State
from tests.integration.test_request_day import read
from tests.support.command import Done, call, in_terminal
from tests.support.desk import Desk, request_mail
from tests.support.office import ENGINE, Office

CONFIG = """
[journal]
path = "state/journal.db"
syslog = ""
[staging]
host = ""
[mail]
outgoing = "maildir:outbox"
"""
STATES = ("draft", "approved", "sending", "sent", "partly_refused", "refused", "ambiguous", "bounced", "discarded")
OVER = set(STATES) - {"draft", "approved", "sending"}
WORKS_IN = {
    "approve": {"draft"},
    "send": {"draft", "approved"},
    "discard": {"draft", "approved"},
    "edit": {"draft", "approved"},
    "resend": OVER,
}
TEXT = "To: new@example.org\nCc: dpetry@eso.org\nSubject: Re: other\n\nMy own words, with é\n"


@dataclass
class Site:
    """A journal and an outgoing Maildir; the engine's step is called by hand."""

    folder: Path
    office: Office

    def __call__(self, *words: str, expect: int = 0, stdin: bytes = b"") -> Done:
        """Run a verb."""
        done = call(self.folder / "config.toml", *words, stdin=stdin)
        assert done.code == expect, (words, done)
        return done

    def shown(self, letter: int) -> dict[str, Any]:
        """A letter as `letters --json` has it."""
        (found,) = [one for one in self("letters", "--json").json if one["id"] == str(letter)]
        return dict(found)

    def send(self) -> list[bytes]:
        """Let the engine send what is approved; returns everything in the Maildir."""
        loaded = config.load(self.folder / "config.toml")
        with contextlib.closing(Journal.open(loaded.journal_path)) as journal:
            asyncio.run(Sending(site.bench(loaded, journal, ENGINE)).step())
        return [path.read_bytes() for path in (self.folder / "outbox" / "new").glob("*")]


@pytest.fixture
def here(tmp_path: Path) -> Site:
    """A site without servers."""
    (tmp_path / "config.toml").write_text(CONFIG)
    return Site(tmp_path, Office.open(tmp_path / "state" / "journal.db"))


def test_the_documents_fields(here: Site) -> None:
    """Those of the contract, with their kinds of values; `letter --json` has the text beside them."""
    request = here.office.request(State.REFUSED)
    letter = here.office.letter(request)
    shown = here.shown(letter)
    assert {"id", "request", "kind", "to", "cc", "subject", "state", "message_id", "why"} <= shown.keys()
    assert (shown["id"], shown["request"], shown["kind"]) == (str(letter), str(request), "not_entitled")
    assert (shown["to"], shown["cc"], shown["state"]) == (["helper@eso.org"], [], "draft")
    assert (shown["message_id"], shown["why"]) == (None, None)
    one = here("letter", str(letter), "--json").json
    assert one["text"].startswith("To: helper@eso.org\nCc: \nSubject: Re: ALMA: REQUEST")
    assert "\nNOT ENTITLED\n\n> Dear AOG," in one["text"]
    here("approve", str(letter))
    (raw,) = here.send()
    shown = here.shown(letter)
    assert shown["state"] == "sent"
    assert shown["message_id"] == read(raw)["Message-ID"]
    assert "NOT ENTITLED" in here("letter", str(letter)).out.decode()


def test_an_edited_letter_goes_out_as_edited(here: Site) -> None:
    """From standard input; one that was approved is a draft again, so nobody else's words go unseen."""
    letter = here.office.letter(here.office.request(State.REFUSED))
    here("approve", str(letter))
    assert here("edit", str(letter), "--file", "-", "--json", stdin=TEXT.encode()).json["state"] == "draft"
    assert here.send() == []
    here("send", str(letter))
    (raw,) = here.send()
    sent = read(raw)
    assert (sent["To"], sent["Cc"], sent["Subject"]) == ("new@example.org", "dpetry@eso.org", "Re: other")
    assert sent.get_content().replace("\r\n", "\n") == "My own words, with é\n"
    here("edit", str(letter), "--file", "-", stdin=TEXT.encode(), expect=5)


def test_what_was_tried_is_not_edited(here: Site) -> None:
    """A letter that waits for its next try keeps its bytes and its Message-ID; nobody knows what may have gone."""
    letter = here.office.letter(here.office.request(State.REFUSED))
    here("approve", str(letter))
    asyncio.run(here.office.book.fixed(here.office.journal.fetch("letter", letter)))
    before = here.office.everything()
    assert b"was tried already" in here("edit", str(letter), "--file", "-", stdin=TEXT.encode(), expect=5).err
    assert here.office.everything() == before
    (raw,) = here.send()
    assert read(raw)["To"] == "helper@eso.org"


def test_the_editor_gets_the_letter_and_may_leave_it(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """`$EDITOR`; leaving without writing changes nothing."""
    letter = here.office.letter(here.office.request(State.REFUSED))
    monkeypatch.setenv("VISUAL", "true")
    assert b"unchanged" in here("edit", str(letter)).out
    monkeypatch.setenv("VISUAL", "sed -i -e s/NOT.ENTITLED/PLEASE.WAIT/")
    here("edit", str(letter))
    assert "PLEASE.WAIT" in here("letter", str(letter)).out.decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no head at all",
        "To: \nSubject: x\n\nbody",
        "To: a@b.example\nSubject:\n\nbody",
        "To: a@b.example\nTo: c@d.example\nSubject: x\n\nbody",
        "To: a@b.example\nBcc: evil@x.example\nSubject: x\n\nbody",
        "To: a@b.example\rBcc: evil@x.example\nSubject: x\n\nbody",
        "To: a@b.example\x85evil@x.example\nSubject: x\n\nbody",
        "To: a@b.example evil@x.example\nSubject: x\n\nbody",
        "To: Name <a@b.example>\nSubject: x\n\nbody",
        "To: =?utf-8?q?a=40b?=@x.example\nSubject: x\n\nbody",
        "To: a@b.example\nCc: ;evil@x.example\nSubject: x\n\nbody",
        "To: pí@b.example\nSubject: x\n\nbody",
        "X-AOGConsole-History: 1 0\nTo: a@b.example\nSubject: x\n\nbody",
        b"To: a@b.example\nSubject: x\n\nb\xffdy",
    ],
)
def test_a_hostile_edit_is_refused(here: Site, text: str | bytes) -> None:
    """Exit code 2 with the line in question, shown clean; the letter is as before."""
    letter = here.office.letter(here.office.request(State.REFUSED))
    before = here.office.everything()
    raw = text if isinstance(text, bytes) else text.encode()
    done = here("edit", str(letter), "--file", "-", stdin=raw, expect=2)
    assert done.err.startswith(b"aogconsole: ")
    assert b"\x1b" not in done.err
    assert b"Traceback" not in done.err
    assert here.office.everything() == before


@pytest.mark.parametrize("verb", WORKS_IN)
def test_a_verb_in_the_wrong_state_is_a_conflict(here: Site, verb: str) -> None:
    """Exit code 5 with the name of who acted, nothing changed; in the right state it works."""
    words = {"resend": ("--why", "lost"), "edit": ("--file", "-")}.get(verb, ())
    for state in STATES:
        request = here.office.request(State.REFUSED)
        letter = here.office.letter(request)
        if state == "approved":
            here.office.ann.approve(letter)
        elif state != "draft":
            here.office.finish(letter, state)
        before = here.office.everything()
        works = state in WORKS_IN[verb]
        done = here(verb, str(letter), *words, stdin=TEXT.encode(), expect=0 if works else 5)
        if not works:
            assert f"is {state}, so '{verb}' is not possible: " in done.err.decode()
            assert b"@aog1 did '" in done.err
            assert here.office.everything() == before
    assert here.office.problems() == []


def test_wrong_ids_are_told(here: Site) -> None:
    """No such letter, a request's id, no number: exit code 2."""
    request = here.office.request(State.REFUSED)
    for verb in ("letter", "approve", "send", "discard"):
        assert f"{request} is a request, not a letter" in here(verb, str(request), expect=2).err.decode()
        assert b"there is no letter 999" in here(verb, "999", expect=2).err
        here(verb, "x", expect=2)
    here("resend", str(here.office.letter(request)), expect=2)


def test_the_message_itself_is_not_for_a_terminal(here: Site) -> None:
    """`--eml` byte for byte into a pipe; refused on a terminal; not there before it is made."""
    letter = str(here.office.letter(here.office.request(State.REFUSED)))
    assert b"has no message yet" in here("letter", letter, "--eml", expect=2).err
    here("approve", letter)
    (raw,) = here.send()
    assert here("letter", letter, "--eml").out == raw.replace(b"\n", b"\r\n")  # a Maildir has the system's line ends
    argv = [sys.executable, "-m", "aogconsole", "--config", str(here.folder / "config.toml"), "letter", letter]
    code, shown = in_terminal([*argv, "--eml"], dict(os.environ))
    assert (code, b"--eml is not for a terminal" in shown, b"NOT ENTITLED" in shown) == (2, True, False)
    code, shown = in_terminal(argv, dict(os.environ))
    assert (code, b"NOT ENTITLED" in shown) == (0, True)


def test_a_person_picks_the_refusal(here: Site) -> None:
    """`refuse --as` from unclear approves that letter; it wants a reason, and the right state."""
    request = here.office.request(State.UNCLEAR)
    for words, code in ((("--as", "invalid_user"), 2), (("--as", "maybe", "--why", "x"), 2), ((), 5)):
        here("refuse", str(request), *words, expect=code)
    done = here("refuse", str(request), "--as", "invalid_user", "--why", "asked the user", "--json").json
    assert (done["state"], done["verdict"], done["why"]) == ("refused", "invalid_user", "asked the user")
    (raw,) = here.send()
    assert read(raw).get_content().startswith("INVALID USER ID")
    assert here.office.state(request) == State.CLOSED
    here("refuse", str(request), "--as", "invalid_user", "--why", "again", expect=5)
    entitled = here.office.request(State.ENTITLED)
    here("refuse", str(entitled), "--as", "not_entitled", "--why", "no", expect=5)


def staged_until(here: Site, days: int) -> tuple[int, int]:
    """A request with a link letter, whose data will be deleted in so many days: request and letter."""
    request = here.office.request(State.STAGED)
    day = times.day(times.now() + timedelta(days=days), "UTC")
    here.office.journal.connection.execute("update run set deleted_on = ? where request = ?", (day, request))
    return request, here.office.letter(request)


@pytest.mark.parametrize(("days", "words"), [(28, "28 days"), (5, "5 days"), (1, "1 day")])
def test_a_link_letter_tells_the_days_that_are_left(here: Site, days: int, words: str) -> None:
    """As of the sending: those it waited are gone."""
    request, letter = staged_until(here, days)
    here("approve", str(letter))
    (raw,) = here.send()
    assert f"It will be deleted {words} from now." in read(raw).get_content()
    assert here.office.state(request) == State.CLOSED


@pytest.mark.parametrize("days", [0, -3])
def test_a_link_to_nothing_is_not_sent(here: Site, days: int) -> None:
    """When the data are, or are about to be, deleted a person is told so, and nobody else."""
    request, letter = staged_until(here, days)
    here("approve", str(letter))
    assert here.send() == []
    shown = here.shown(letter)
    assert shown["state"] == "refused"
    assert "the staged data is, or is about to be, deleted" in shown["why"]
    document = here("show", str(request), "--json").json
    assert (document["state"], document["next_action"]) == ("unclear", "decide")
    assert "deleted" in document["why"]
    here("rerun", str(request), "--why", "stage it again")
    assert here.office.state(request) == State.QUEUED


def test_the_engine_does_not_wait_for_a_letter_that_waits_for_a_person(desk: Desk) -> None:
    """An approved letter of a request that was put aside stays, and goes when the request is released."""
    desk.configure(policy="ask")
    desk.deliver(request_mail(account="other"))
    desk.serve_until_idle()
    (request,) = desk.json("requests")
    desk.call("hold", request["id"], "--why", "lunch")
    desk.call("approve", *request["letters"])
    desk.serve_until_idle()
    assert desk.filed() == []
    assert [one["state"] for one in desk.json("letters")] == ["approved"]
    desk.call("release", request["id"])
    desk.serve_until_idle()
    assert len(desk.filed()) == 1
    assert desk.json("requests")[0]["state"] == "closed"
