"""Hostile texts from mails, the archive and stagecalms: shown, and never acted on by a terminal (reliability F14)."""

from __future__ import annotations

import email.policy
import json
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.command import call, in_terminal
from tests.support.desk import MOUS, Desk, request_mail
from tests.support.smtp import SmtpServer, smtp_server

NEEDLE = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\x9b31m\x1b]0;owned\x1b\\\u202egnp.exe\u2028\rCR\x00\x7f[/][@click=app.bell]x[/]"
"""Clipboard, clear screen, C1, title, right-to-left, line separator, CR, NUL, DEL, markup."""
SHOWN = "\\x1b]52;c;ZXZpbA=="
STAGECALMS = r"""#!/bin/bash
hex=$(printf '%s' "$1$2$3" | md5sum | cut -c1-32)
url=http://almascience.eso.org/arcdistribution/preview/$hex
echo "The staging directory will be accessible at $url"
needle=$'\e]52;c;ZXZpbA==\a\e[2J\x9b31m\xff\xfe\e]0;owned\e\\\u202e\rCR\x7f[/]'
echo "$needle"
echo "DATAMACHINE chosen: $needle"
echo "Working as arcproc@$needle ..."
echo "(re-)creating directory /opsw/$needle/WORK1"
printf 'progress 1\rprogress 2\r'
echo "Now generating the calibrated MS(s) ... $needle"
if [ "$3" = 90 ]; then
    echo "Failed. Please investigate  /var/www/html/$hex and possibly remove incomplete data belonging to MOUS $2"
    echo "The working directory /opsw/$needle on the EU ARC cluster was not removed."
    exit 1
fi
echo
echo "Staging of calibrated MS(s) for $1 $2 helpdesk ticket #$3 completed"
echo "at $url"
echo "Data will be deleted 28 days from $(date -u '+%a %b %d %H:%M:%S UTC %Y')unless you put a .donotremove in it."
"""
_CODES = ",".join(str(ord(character)) for character in NEEDLE if character != "\x00")
ARCHIVE = "".join(
    f"update account set {column} = char({_CODES}) || {column};"  # noqa: S608
    for column in ("firstname", "lastname", "preferredarc")
)
LISTS = (
    "requests", "show 2", "show 4", "show 6", "show 8", "mails", "runs", "run {run}", "log {run}", "letters",
    "letter {letter}", "history", "history 2", "handover", "staged", "doctor", "requests --search \x1b]52", "stage 4",
    f"check {MOUS} pi1", "config show",
)  # fmt: skip
TELLING = {"mails", "log", "letters", "letter", "history"}
"""Verbs that show somewhere what was tried."""
IN_ORDER = """
import sys
from aogconsole.cli.root import main
file, verbs = sys.argv[1:]
for words in verbs.split("|"):
    sys.argv[1:] = ["--config", file, *words.split("~")]
    print("==", flush=True)
    try:
        main()
    except SystemExit:
        pass
"""


def acting(text: bytes, *, terminal: bool = False) -> set[str]:
    """The characters in an output that a terminal may act on: none but line ends and tabs should be there."""
    decoded = text.decode("utf-8", "surrogateescape")
    if terminal:
        decoded = decoded.replace("\r\n", "\n")  # the line discipline's
    allowed = {"\n", "\t"}
    return {repr(c) for c in decoded if unicodedata.category(c) in {"Cc", "Cf", "Zl", "Zp", "Cs"} and c not in allowed}


def test_the_search_finds_each_of_them() -> None:
    """An output that was not cleaned is caught, character by character."""
    for character in {*NEEDLE} - {*"[]/@;=. 0123456789"}:
        assert bool(acting(f"a{character}b".encode())) == (not character.isprintable())
    assert acting(b"a\xffb") != set()
    assert acting("Pí, ok\n\t".encode()) == set()
    assert acting(b"a\r\n", terminal=True) == set()
    assert acting(b"a\rb\r\n", terminal=True) == {"'\\r'"}


def encoded(text: str) -> str:
    """A text as an encoded word, which may hold anything."""
    return "=?utf-8?q?" + "".join(f"={byte:02X}" for byte in text.encode("utf-8", "surrogatepass")) + "?="


WRITABLE = "".join(character for character in NEEDLE if character not in "\x00\r")
"""What can stand in a line of a mail in 8 bits."""


def mail(ticket: str, headers: tuple[str, str] = ("", ""), **fields: str) -> bytes:
    """A request with hostile parts; the first text of `headers` becomes the second one."""
    raw = request_mail(ticket=ticket, **{"account": "other", **fields}).decode()
    head, _, body = raw.replace("From: Helper", f"From: {encoded(NEEDLE)}").replace(*headers, 1).partition("\r\n\r\n")
    head += "\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit"
    return f"{head}\r\n\r\n{body}{WRITABLE}\r\n".encode()


INJECTED = encoded("x\r\nBcc: evil@x.example\r\n\r\n")
MAILS = (
    mail("1", account="pi1"),
    mail("90", account="pi1"),
    mail("3", ("Subject: ", f"Subject: {encoded(NEEDLE)} {INJECTED} ")),
    mail("4", ("Message-ID: ", f"Reply-To: evil@x.example\r\nReferences: <{INJECTED}@x> <b@x>\r\nMessage-ID: ")),
    mail("5", ("aog@eso.org", f"{INJECTED} <evil@x.example>, aog@eso.org, second@eso.org,\r\n Bcc: evil@x.example")),
    mail("6", project=f"2012.1.00357.S{WRITABLE}"),
    mail("7", account=f"pi1{WRITABLE}"),
    f"From: {encoded(NEEDLE)} <a@x.example>\r\nSubject: {INJECTED}\r\nMessage-ID: <n@x>\r\n\r\n{NEEDLE}".encode(),
    b"From: \x1b]52;c;ZXZpbA==\x07 <b@x.example>\r\nSubject: raw \x1b[2J \x9b31m\r\nMessage-ID: <r@x>\r\n\r\n\x1b]52",
)


@dataclass
class Needled:
    """A day with hostile texts everywhere, over."""

    desk: Desk
    server: SmtpServer

    def words(self) -> list[list[str]]:
        """The verbs that show things."""
        run = next(one["id"] for one in self.desk.json("runs") if one["state"] == "failed")
        letter = next(one["id"] for one in self.desk.json("letters") if one["kind"] == "expert")
        return [words.format(run=run, letter=letter).split(" ") for words in LISTS]


@pytest.fixture
def needled(desk: Desk) -> Iterator[Needled]:
    """The day: every mail taken, every run over, every letter sent."""
    desk.archive.load(ARCHIVE)
    desk.host.install(STAGECALMS)
    with smtp_server({"RCPT dpetry@eso.org": "550 no \x1b]52;c;ZXZpbA==\x07 \x1b[2J"}) as server:
        outgoing = f'outgoing = "smtp://127.0.0.1:{server.port}"\ncc_refusals = true'
        desk.configure("auto", "forced", 0, **{'outgoing = "maildir:outbox"': outgoing})
        desk.deliver(*MAILS)
        desk.serve_until_idle()
        desk.call("note", "2", NEEDLE.replace("\x00", ""))
        yield Needled(desk, server)


def test_no_output_acts_on_a_terminal(needled: Needled) -> None:
    """Every verb that shows something, as text and JSON, to a pipe and to a real terminal; and the engine's log."""
    desk, seen = needled.desk, b""
    for words in needled.words():
        done = call(desk.config, *words)
        assert acting(done.out) | acting(done.err) == set(), words
        assert SHOWN.encode() in done.out or words[0] not in TELLING, words
        seen += done.out
        document = call(desk.config, *words, "--json")
        assert acting(document.out) | acting(document.err) == set(), words
        if document.code in (0, 1) and words[0] not in ("log", "doctor"):
            json.loads(document.out)
    assert seen.count(SHOWN.encode()) > 20
    assert acting((desk.folder / "serve.log").read_bytes()) == set()
    assert "Traceback" not in desk.log()
    everything = "|".join("~".join(words) for words in needled.words())
    code, shown = in_terminal([sys.executable, "-c", IN_ORDER, str(desk.config), everything], desk.environment)
    assert code == 0
    assert acting(shown, terminal=True) == set()
    assert shown.count(b"==\r\n") == len(LISTS)
    assert shown.count(SHOWN.encode()) > 20
    run = next(words[1] for words in needled.words() if words[0] == "log")
    assert b"\x1b]52;c;" in call(desk.config, "log", run, "--raw").out
    code, shown = in_terminal(desk.argv("log", run, "--raw"), desk.environment)
    assert (code, acting(shown, terminal=True)) == (2, set())


def test_each_letter_went_to_whom_it_should(needled: Needled) -> None:
    """Whatever stands in the request: exactly one letter, its recipients, its headers, no more."""
    tickets = {one["id"]: one["ticket"] for one in needled.desk.json("requests")}
    letters = {tickets[one["request"]]: one for one in needled.desk.json("letters")}
    assert sorted(letters) == ["1", "3", "4", "5", "90"]
    by_id = {}
    for accepted in needled.server.accepted:
        message = email.message_from_bytes(accepted.data, policy=email.policy.default)
        by_id[str(message["Message-ID"])] = accepted
        assert {"bcc", "reply-to", "sender", "resent-to"}.isdisjoint(name.lower() for name in message)
        assert len(message.keys()) == len(set(message.keys()))
        assert acting(accepted.data.replace(b"\r\n", b"\n")) == set()
    wanted = {"1": ("ann@example.org", "helper@eso.org"), "3": ("helper@eso.org",), "4": ("helper@eso.org",),
              "5": ("helper@eso.org", "second@eso.org")}  # fmt: skip
    for ticket, recipients in wanted.items():
        assert sorted(by_id[letters[ticket]["message_id"]].recipients) == sorted(recipients)
    assert letters["90"]["to"] == ["dpetry@eso.org"]
    assert letters["90"]["state"] == "refused"
    assert len(by_id) == len(needled.server.accepted) == len(wanted)
