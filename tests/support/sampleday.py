"""A day at the desk, from the first mail to the hand-over: every command that prints JSON is called once on the way.

The documentation's example documents, and the session in the README, are what these commands printed.
"""

from __future__ import annotations

import json
import re
from typing import Any

from click.testing import CliRunner

from aogconsole.cli.root import cli
from aogconsole.journal.history import Actor
from tests.support.desk import MOUS, PROJECT, Desk, request_mail

RUNNING = "15293"
"""A ticket whose run goes on until its file `go` is there."""
LUNCH = b"From: a@eso.org\r\nSubject: lunch?\r\nMessage-ID: <lunch@eso.org>\r\n\r\nAt noon.\r\n"


GROUPS = {"config", "reingestion", "workflow", "broker"}
"""Verbs that have verbs of their own."""


class SampleDay:
    """Calls commands on a site while its engine runs, and keeps what they printed by name."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.documents: dict[str, Any] = {}
        self.environment = desk.environment

    def text(self, *words: str, stdin: bytes = b"") -> str:
        """What a command prints. It is called in this process: there are many."""
        argv = ["--config", str(self.desk.config), *words]
        done = CliRunner().invoke(cli, argv, stdin, self.environment, standalone_mode=False)
        if done.exception:
            raise done.exception
        assert not done.return_value, words
        return done.stdout

    def call(self, *words: str, stdin: bytes = b"", name: str = "") -> Any:
        """The document of a command, kept for the first time it is called."""
        document = json.loads(self.text(*words, "--json", stdin=stdin))
        group = " ".join(words[:2]) if words[0] in GROUPS else words[0]
        self.documents.setdefault(name or group, document)
        return document

    def of(self, ticket: str) -> dict[str, Any]:
        """The request of a ticket."""
        found = json.loads(self.text("requests", "--ticket", ticket, "--json"))
        return dict(found[0]) if found else {"state": None}

    def until(self, ticket: str, state: str) -> dict[str, Any]:
        """Wait for a request's state."""
        self.desk.wait(lambda: self.of(ticket)["state"] == state)
        return self.of(ticket)

    def run(self) -> dict[str, Any]:
        """The whole day; the documents by command."""
        call = self.call
        self.desk.configure(policy="ask")
        call("config", "path")
        call("config", "check")
        call("config", "show")
        call("compose", "--mous", MOUS, "--project", PROJECT, "--account", "pi1", "--ticket", "15270")
        call("check", MOUS, "pi1", "--project", PROJECT)
        with self.desk.serving():
            self._requests()
            self._letters()
            self._runs()
            call("doctor")
        for verb in ("mails", "requests", "runs", "letters", "staged", "history", "handover"):
            call(verb)
        first = self.of("15270")
        call("show", first["id"])
        call("run", first["run"])
        call("letter", first["letters"][-1])
        call("history", "--verify", name="history-verify")
        demo = CliRunner().invoke(cli, ["demo", "--headless", "--speed", "1000", "--json"], standalone_mode=False)
        self.documents["demo"] = json.loads(demo.stdout)  # on a site of its own
        return self.documents

    def _requests(self) -> None:
        """Mails arrive; the archive is asked; requests are looked after."""
        desk, call = self.desk, self.call
        desk.deliver(
            request_mail(), request_mail(ticket="15271", account="other"), request_mail(ticket="15290"),
            request_mail(ticket=RUNNING), request_mail(ticket="15272", project="2013.1.00357.S"), LUNCH,
        )  # fmt: skip
        first, second = self.until("15270", "entitled")["id"], self.until("15290", "entitled")["id"]
        call("pause")
        call("claim", first)
        call("note", first, "the user needs it by Friday")
        call("stage", first)
        self.text("stage", second)
        call("move", second, "2")
        call("resume")
        call("ingest", "-", stdin=request_mail(ticket="15273", account="other"))
        refused = self.until("15273", "refused")["id"]
        call("hold", refused, "--why", "the helpdesk asks the user")
        call("release", refused)
        call("correct", self.until("15272", "unclear")["id"], "--project", PROJECT, "--why", "a slip of the pen")
        call("recheck", self.until("15272", "entitled")["id"])
        self.until("15272", "entitled")

    def _letters(self) -> None:
        """Letters are read, bettered, and go."""
        call = self.call
        call("refuse", self.until("15271", "refused")["id"])
        (refusal,) = self.of("15273")["letters"][-1:]
        text = self.text("letter", refusal).replace("NOT ENTITLED", "NOT ENTITLED\n\nPublic from March on.")
        call("edit", refusal, "--file", "-", stdin=text.encode())
        call("approve", refusal)
        call("send", self.until("15270", "staged")["letters"][-1])
        call("discard", self.until("15290", "failed")["letters"][-1])
        call("resend", self.until("15271", "closed")["letters"][-1], "--why", "the helpdesk did not find it")
        for ticket in ("15270", "15271", "15273"):
            self.until(ticket, "closed")
        call("keep", self.of("15270")["run"])
        self.desk.wait(lambda: json.loads(self.text("staged", "--json"))[0]["kept"])

    def _runs(self) -> None:
        """A run is stopped and run again; a request is closed, and opened again."""
        desk, call = self.desk, self.call
        self.text("stage", self.until(RUNNING, "entitled")["id"])
        run = self.until(RUNNING, "staging")["run"]
        desk.wait(lambda: json.loads(self.text("run", run, "--json"))["state"] == "running")
        call("stop", run, "--why", "the disk of the node is full")
        held = self.until(RUNNING, "held")
        (desk.host.home / f"go.{RUNNING}").touch()
        call("rerun", held["id"], "--why", "there is room again")
        self.until(RUNNING, "staged")
        call("close", self.of("15290")["id"], "--why", "the user has the data already")
        call("reopen", self.of("15290")["id"], "--why", "only half of them")


DAY = """
aogconsole requests
aogconsole show {first}
aogconsole stage {first}
aogconsole letter {refusal}
aogconsole refuse {second}
aogconsole letter {link}
aogconsole send {link}
aogconsole requests
aogconsole staged
aogconsole handover
"""
"""The README's session: what an operator types."""


def session(desk: Desk) -> str:
    """The README's session, as Markdown, with what the commands printed."""
    day, lines = SampleDay(desk), []
    desk.configure(policy="ask")
    desk.deliver(request_mail(), request_mail(ticket="15271", account="other"))
    with desk.serving():
        day.until("15270", "entitled")
        names = {"first": day.until("15270", "entitled")["id"], "second": day.until("15271", "refused")["id"]}
        names["refusal"] = day.of("15271")["letters"][0]
        for command in DAY.strip().splitlines():
            if "{link}" in command and "link" not in names:
                names["link"] = day.until("15270", "staged")["letters"][0]
            words = command.format(**names)
            lines += [f"    $ {words}", *(f"    {line}".rstrip() for line in day.text(*words.split()[1:]).splitlines())]
            after = {"refuse": ("15271", "closed"), "stage": ("15270", "staged"), "send": ("15270", "closed")}
            if words.split()[1] in after:
                day.until(*after[words.split()[1]])
    return scrubbed("\n".join(lines), desk)


CHANGING = (
    (r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?", "TIME"), (r"\w{3}, \d\d \w{3} \d{4} [\d:]+ \+0000", "TIME"),
    (r"\b[0-9a-f]{12,64}\b", "HEX"), (r"\b\d+ [mhd]\b", "AGE"),
    (r"(check_ms +)\d+", r"\1N"), (r"(version +)\d+", r"\1N"),
    (r"History: \d+", "History: N"), (r" +", " "),
)  # fmt: skip
"""What is another at every run."""


def masked(text: str) -> str:
    """The session without what is another at every run."""
    for pattern, mark in CHANGING:
        text = re.sub(pattern, mark, text)
    return text


def scrubbed(text: str, desk: Desk) -> str:
    """What a command printed, as it would be on the group's machine: no paths, ports, or names of the tests."""
    who = Actor.current("").who
    for old, new in (
        (str(desk.host.web_root), "/var/www/html/arcdistribution/preview"),
        (str(desk.host.known_hosts), "/home/aog/.config/aogconsole/known_hosts"),
        (str(desk.host.key("forced")), "/home/aog/.config/aogconsole/id_ed25519"),
        (str(desk.folder), "/home/aog/.config/aogconsole"),
        (desk.host.command, "stagecalms.sh"),
        (desk.archive.dsn, "archive.example.org:1521/ALMA"),
        (who, "anna@aog1"),
        (who.partition("@")[2], "almasciencedev"),
        ("127.0.0.1", "almasciencedev.hq.eso.org"),
        (f'"value": {desk.host.port}', '"value": 22'),
        ("env:AOG_TEST_ORACLE", "file:archive.password"),
    ):
        text = text.replace(old, new)
    return re.sub(r'"\w+(@almasciencedev, )', r'"arcdistribution\1', text)
