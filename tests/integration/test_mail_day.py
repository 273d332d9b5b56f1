"""The mail side whole: Dovecot as the inbox, a mail server that may misbehave, and the engine as a process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aogconsole import views
from aogconsole.journal.store import Journal
from tests.integration.test_request_day import read
from tests.support.desk import MOUS, Desk, request_mail
from tests.support.dovecot import ImapMailbox
from tests.support.office import bounce
from tests.support.smtp import DROP, PASSWORD, QUEUE_AND_DROP, Accepted, SmtpServer, smtp_server

NOTHING_WRONG = {"-": ""}


@dataclass
class MailDay:
    """The site with its mailbox and its mail server; `script` is what the latter does wrong, and may change."""

    desk: Desk
    mailbox: ImapMailbox
    server: SmtpServer
    script: MutableMapping[str, str]
    arrived: int = field(default=0)

    def configure(self) -> None:
        """Policies `auto`; refusals go to the expert too, so that every letter has two recipients."""
        inbox = f'inbox = "{self.mailbox.url}"\ninbox_password = "env:AOG_TEST_IMAP"'
        outgoing = f'outgoing = "smtp://aog@127.0.0.1:{self.server.port}"\noutgoing_password = "env:AOG_TEST_SMTP"'
        replaced = {'inbox = "maildir:inbox"': inbox, 'outgoing = "maildir:outbox"': f"{outgoing}\ncc_refusals = true"}
        self.desk.configure("auto", "forced", 0, **replaced)

    def arrive(self, mail: bytes) -> None:
        """A mail comes into the mailbox, later than those before it."""
        self.arrived += 1
        self.mailbox.deliver(mail, arrived=1_750_000_000 + self.arrived)

    def journal(self, *, read_only: bool = True) -> Journal:
        """The journal as it is now."""
        return Journal.open(self.desk.folder / "state" / "journal.db", read_only=read_only)

    def mails(self) -> list[tuple[str, str, str | None]]:
        """Every mail taken: from, result, why."""
        with contextlib.closing(self.journal()) as journal:
            return [(one["from"], one["result"], one["why"]) for one in views.mails(journal)]

    def requests(self) -> dict[str, dict[str, Any]]:
        """The requests by ticket."""
        with contextlib.closing(self.journal()) as journal:
            return {one["ticket"]: one for one in views.requests(journal)}

    def letter(self, ticket: str) -> dict[str, Any]:
        """The newest letter of a ticket's request; nothing yet: an empty one."""
        with contextlib.closing(self.journal()) as journal:
            found = [one for one in views.requests(journal) if one["ticket"] == ticket and one["letters"]]
            rows = [journal.fetch("letter", int(one["letters"][-1])) for one in found]
            return views.letter(rows[0]) if rows else {"state": ""}

    def wait_letter(self, ticket: str, state: str) -> dict[str, Any]:
        """The letter, once it is in this state."""
        self.desk.wait(lambda: self.letter(ticket)["state"] == state)
        return self.letter(ticket)

    def accepted(self, message_id: str) -> list[Accepted]:
        """What the mail server took with this Message-ID."""
        return [one for one in self.server.accepted if read(one.data)["Message-ID"] == message_id]


@pytest.fixture
def day(desk: Desk, imap_mailbox: ImapMailbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[MailDay]:
    """A site whose mail goes over the wire."""
    monkeypatch.setenv("AOG_TEST_IMAP", imap_mailbox.password)
    monkeypatch.setenv("AOG_TEST_SMTP", PASSWORD)
    script = dict(NOTHING_WRONG)
    with smtp_server(script, login=True) as server:
        made = MailDay(desk, imap_mailbox, server, script)
        made.configure()
        yield made
        desk.close()


def asks(ticket: str, sender: str = "helper@eso.org") -> bytes:
    """A request that is refused: its letter needs no staging."""
    return request_mail(account="other", ticket=ticket, sender=sender)


def reply(message_id: str, number: int) -> bytes:
    """The helpdesk answers a letter."""
    return (
        "From: Helper <helper@eso.org>\r\nTo: aog@eso.org\r\nSubject: Re: ALMA: REQUEST FOR CALIBRATED DATA MOUS "
        f"{MOUS}\r\nMessage-ID: <reply{number}@eso.org>\r\nIn-Reply-To: {message_id}\r\n\r\n"
        f"Thank you, number {number}!\r\n\r\n> please create the calibrated MS for MOUS {MOUS}\r\n"
    ).encode()


def test_the_request_its_letter_and_what_comes_back(day: MailDay) -> None:
    """Link letter in the request's thread; its own copy ignored, a reply noted, a bounce told, sent again as new."""
    asked = request_mail().replace(b"Message-ID", b"References: <ticket@eso.org>\r\nMessage-ID", 1)
    with day.desk.serving():
        day.arrive(asked)
        sent = day.wait_letter("15270", "sent")
        (accepted,) = day.accepted(sent["message_id"])
        assert accepted.sender == "aog@eso.org"
        assert accepted.recipients == ("ann@example.org", "helper@eso.org", "dpetry@eso.org")
        letter, asked_id = read(accepted.data), f"<{MOUS}.pi1.15270@eso.org>"
        assert letter["Subject"] == f"Re: ALMA: REQUEST FOR CALIBRATED DATA MOUS {MOUS}"
        assert letter["In-Reply-To"] == asked_id
        assert letter["References"].split() == ["<ticket@eso.org>", asked_id]
        assert day.requests()["15270"]["url"] in letter.get_content()

        day.arrive(b"Received: from list.eso.org\r\nList-Id: <aog.eso.org>\r\n" + accepted.data)
        day.arrive(reply(sent["message_id"], 1))
        day.desk.wait(lambda: len(day.mails()) == 3)
        assert [one[1:] for one in day.mails()[1:]] == [
            ("ignored", "our own letter"),
            ("note", "a reply to our letter"),
        ]
        request = day.requests()["15270"]
        assert (request["state"], [note["who"] for note in request["notes"]]) == ("closed", ["helper@eso.org"])
        assert "Thank you, number 1!" in request["notes"][0]["text"]
        assert [one["request"] for one in day.desk.json("handover")["replies"]] == [request["id"]]
        shown = day.desk.call("show", request["id"]).stdout.decode()
        assert "\\x0a" not in shown, "a note of several lines is shown as such"

        day.arrive(bounce(sent["message_id"]))
        day.wait_letter("15270", "bounced")
        request = day.requests()["15270"]
        assert (request["state"], request["next_action"]) == ("unclear", "decide")
        assert "550 5.1.1 no such user" in request["why"]

        new = day.desk.json("resend", sent["id"], "--why", "the address is right now")
        again = day.wait_letter("15270", "sent")
        assert again["id"] == new["id"] != sent["id"]
        assert again["message_id"] != sent["message_id"]
        (second,) = day.accepted(again["message_id"])
        assert read(second.data)["In-Reply-To"] == asked_id
        day.arrive(reply(again["message_id"], 2))
        day.desk.wait(lambda: len(day.requests()["15270"]["notes"]) == 2)
    assert day.requests()["15270"]["state"] == "closed"
    assert [one["state"] for one in day.desk.json("letters")] == ["bounced", "sent"]
    assert len(day.server.accepted) == 2
    assert day.desk.json("history", "--verify")["ok"]


def test_every_way_a_sending_can_end(day: MailDay) -> None:
    """State of letter and request, and how often the server took it: 550, 451, all refused, lost after the dot."""
    with day.desk.serving():
        day.script.update({"RCPT bad@eso.org": "550 5.1.1 no such user", "RCPT slow@eso.org": "451 4.7.1 greylisted"})
        day.arrive(asks("1", "bad@eso.org"))
        day.arrive(asks("2", "slow@eso.org"))
        partly = day.wait_letter("1", "partly_refused")
        assert "bad@eso.org was refused: 550 5.1.1 no such user" in partly["why"]
        assert [one.recipients for one in day.accepted(partly["message_id"])] == [("dpetry@eso.org",)]
        day.desk.wait(lambda: day.letter("2").get("next_try"))
        waits = day.letter("2")
        assert waits["state"] == "approved"
        assert "451 4.7.1 greylisted" in waits["why"]
        assert day.accepted(waits["message_id"]) == []
        assert day.requests()["2"]["state"] == "refused"

        day.script["RCPT"] = "550 5.7.1 relaying denied"
        day.arrive(asks("3"))
        refused = day.wait_letter("3", "refused")
        assert "relaying denied" in refused["why"]

        del day.script["RCPT"]
        day.script["dot"] = DROP
        day.arrive(asks("4"))
        lost = day.wait_letter("4", "ambiguous")
        day.script["dot"] = QUEUE_AND_DROP
        day.arrive(asks("5"))
        queued = day.wait_letter("5", "ambiguous")
        day.script.clear()
        day.script.update(NOTHING_WRONG)
        for ticket in ("1", "3", "4", "5"):
            request = day.requests()[ticket]
            assert (request["state"], request["next_action"]) == ("unclear", "decide")
            assert request["why"].startswith(f"letter {day.letter(ticket)['id']} to ")

        day.desk.call("send", waits["id"])
        sent = day.wait_letter("2", "sent")
        assert sent["message_id"] == waits["message_id"]
        assert len(day.accepted(sent["message_id"])) == 1
    with day.desk.serving():  # another engine does not send what may have gone either
        day.arrive(asks("6"))
        day.wait_letter("6", "sent")
        assert [len(day.accepted(one["message_id"])) for one in (lost, queued)] == [0, 1]
        day.desk.call("send", queued["id"], expect=5)
        new = day.desk.json("resend", queued["id"], "--why", "they did not get it")
        again = day.wait_letter("5", "sent")
        assert again["id"] == new["id"]
        assert again["message_id"] not in (None, queued["message_id"])
    assert [len(day.accepted(one["message_id"])) for one in (lost, queued, again)] == [0, 1, 1]
    states = {ticket: request["state"] for ticket, request in day.requests().items()}
    assert states == {"1": "unclear", "2": "closed", "3": "unclear", "4": "unclear", "5": "closed", "6": "closed"}
    assert len(day.server.accepted) == 5
    assert day.desk.json("history", "--verify")["ok"]


def test_a_wrong_password_is_told_where_people_look(day: MailDay, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the letter's why and in the shift's summary; with the right one the same letter goes, once."""
    monkeypatch.setenv("AOG_TEST_SMTP", "not-the-password")
    with day.desk.serving():
        day.arrive(asks("1"))
        day.desk.wait(lambda: "outgoing" in {one["name"] for one in day.desk.json("handover")["connections"]})
    waits = day.letter("1")
    (shown,) = day.desk.json("letters")
    assert shown["state"] == "approved"
    assert "refuses the log-in of aog" in shown["why"]
    connections = {one["name"]: one for one in day.desk.json("handover")["connections"]}
    assert (connections["outgoing"]["ok"], connections["mail"]["ok"]) == (False, True)
    assert "refuses the log-in of aog" in connections["outgoing"]["detail"]
    assert "outgoing does not answer" in day.desk.call("handover").stdout.decode()
    monkeypatch.setenv("AOG_TEST_SMTP", PASSWORD)
    day.desk.call("send", waits["id"])
    day.desk.serve_until_idle()
    assert day.letter("1")["message_id"] == waits["message_id"]
    assert len(day.accepted(waits["message_id"])) == 1
    connections = {one["name"]: one for one in day.desk.json("handover")["connections"]}
    assert connections["outgoing"]["ok"]


def test_nothing_is_lost_or_doubled_while_the_mailbox_comes_and_goes(day: MailDay) -> None:
    """The server down and up again; UIDVALIDITY changed by a restore; each mail is taken once."""
    server = day.mailbox.server
    try:
        with day.desk.serving():
            day.arrive(asks("1"))
            day.wait_letter("1", "sent")
            server.stop()
            day.desk.wait(lambda: "mail:" in day.desk.log())
            day.arrive(asks("2"))
            (trouble,) = [one for one in day.desk.json("handover")["connections"] if one["name"] == "mail"]
            assert not trouble["ok"]
            assert "cannot be reached" in trouble["detail"]
            server.start()
            day.wait_letter("2", "sent")
        day.mailbox.renumber()
        day.arrive(asks("3"))
        with day.desk.serving():
            day.wait_letter("3", "sent")
            day.arrive(asks("4"))
            day.wait_letter("4", "sent")
    finally:
        if server.process.poll() is not None:
            server.start()
    assert [result for _, result, _ in day.mails()] == ["request"] * 4
    assert sorted(day.requests()) == ["1", "2", "3", "4"]
    assert len(day.server.accepted) == 4
    assert {one["ok"] for one in day.desk.json("handover")["connections"]} == {True}


def test_killed_between_reading_a_mail_and_recording_it(day: MailDay) -> None:
    """The mail was fetched, the journal does not have it: the next engine takes it, once."""
    server = day.desk.start_serve()
    day.desk.wait(lambda: "the engine runs" in day.desk.log())
    day.arrive(asks("1"))
    day.wait_letter("1", "sent")
    other = day.journal(read_only=False)
    other.connection.execute("begin immediate")
    try:
        day.arrive(asks("2"))
        day.desk.wait(lambda: stays_connected(day.mailbox.server.port))
        server.kill()
        server.wait()
    finally:
        other.connection.execute("rollback")
        other.close()
    assert sorted(day.requests()) == ["1"]
    with day.desk.serving():
        day.wait_letter("2", "sent")
    assert [result for _, result, _ in day.mails()] == ["request", "request"]
    assert len(day.server.accepted) == 2


def stays_connected(port: int) -> bool:
    """Whether one connection to the port lasts: the engine has read from it, and waits for the journal."""
    before, end = connections(port), time.monotonic() + 1.5
    while time.monotonic() < end and (before := before & connections(port)):
        time.sleep(0.05)
    return bool(before)


def connections(port: int) -> set[int]:
    """Local ports of the established connections to a port of loopback."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1][-4:], 16) for row in rows if row[2] == f"0100007F:{port:04X}" and row[3] == "01"}
