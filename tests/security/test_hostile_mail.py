"""Mails made to break their reader: none crashes it, none takes 10 s, each is accounted for (reliability F17)."""

from __future__ import annotations

import base64
import email
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from email.policy import default as modern

import pytest

from aogconsole.mailparser import MailParser
from aogconsole.requests.intake import NewRequest, classify
from aogconsole.requests.mail import ParsedMail, parse_mail
from tests.support.known import RULES, MemoryKnown
from tests.unit.test_intake import CORPUS

Read = Callable[[bytes], Awaitable[ParsedMail]]
SECONDS = 10
HEAD = b"From: eve@evil.example\nMessage-ID: <hostile@evil.example>\n"
SUBJECT = HEAD + b"Subject: ALMA: REQUEST FOR CALIBRATED DATA\n"
PLAIN = HEAD + b"Content-Type: text/plain\n"


def nested(depth: int) -> bytes:
    """Multiparts in multiparts."""
    return HEAD + b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(depth))


def enclosed(depth: int) -> bytes:
    """Messages in messages."""
    return HEAD + b"Content-Type: message/rfc822\n\n" * depth + b"text"


BUILT: dict[str, bytes] = {
    "30,000 encoded words": HEAD + b"Subject: " + b"=?utf-8?q?a?= " * 30_000 + b"\n\nx",
    "30,000 folded encoded words": HEAD + b"Subject:" + b" =?utf-8?b?YQ==?=\n" * 30_000 + b"\nx",
    "15,000 encoded words in 8 headers": HEAD + (b"Subject: " + b"=?utf-8?q?a?= " * 15_000 + b"\n") * 8 + b"\nx",
    "2,000 nested parts": nested(2000),
    "50,000 nested parts": nested(50_000),
    "2,000 nested messages": enclosed(2000),
    "10,000 comments in To": HEAD + b"To: " + b"(" * 10_000 + b"\n\nx",
    "100,000 addresses": HEAD + b"To: " + b"a@b, " * 100_000 + b"\n\nx",
    "60,000 From addresses": b"Message-ID: <hostile@evil.example>\nFrom: " + b"a@b, " * 40_000 + b"\n\nx",
    "a million parts": HEAD + b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 1_000_000,
    "a huge boundary": HEAD + b'Content-Type: multipart/mixed; boundary="' + b"b" * 200_000 + b'"\n\nx',
    "a pattern as boundary": HEAD + b'Content-Type: multipart/mixed; boundary="(a+)+$"\n\n--' + b"a" * 50_000,
    "no boundary": HEAD + b"Content-Type: multipart/mixed\n\nx",
    "60,000 parameters": HEAD + b"Content-Type: text/plain" + b';a="' * 60_000 + b"\n\nx",
    "a header of 9 MB": HEAD + b"X: " + b"y" * 9_000_000 + b"\n\nx",
    "a million headers": HEAD + b"X: y\n" * 1_000_000 + b"\nx",
    "only line ends": b"\n" * 9_000_000,
    "only NULs": b"\0" * 9_000_000,
    "NULs in headers": b"From: eve\0@evil.example\nMessage-ID: <hostile@evil.example>\nSubject: a\0b\n\n\0",
    "8-bit headers": HEAD + b"Subject: \xff\xfe\x80\n\xff: \xff\n\n\xff",
    "lone carriage returns": (HEAD + b"Subject: x\n\nbody\n").replace(b"\n", b"\r"),
    "no headers": b"just text",
    "empty": b"",
    "too large": SUBJECT + b"\n" + b"x" * 30_000_000,
    "white space in the request": SUBJECT + b"\ncalibrated MS for MOUS" + b" " * 190_000 + b"\n",
    "words of the request": SUBJECT + b"\n" + b"calibrated MS for MOUS for user helpdesk ticket project " * 3500,
    "opening brackets after the user": SUBJECT + b"\nfor user x " + b"(" * 190_000,
    "200 kB of UIDs": SUBJECT + b"\n" + b"uid___A001_X1_X1 uid:///" * 8000,
    "200 kB of UID": SUBJECT + b"\nuid" + b"_" * 199_000,
    "attributions": PLAIN + b"\n" + b"On a, b\nwrote:\n" * 13_000,
    "half attributions": PLAIN + b"\n" + b"On schrieb schrieb schrieb " * 20 + b"On:\n" * 40_000,
    "header blocks": PLAIN + b"\n" + b"From: a\n" * 24_000,
    "forward marks": HEAD + b"Subject: Fwd: x\n\n" + b"---- forwarded ----\n" * 9000,
    "flowing for ever": HEAD + b"Content-Type: text/plain; format=flowed\n\n" + b"> a \n" * 300_000,
    "quoting for ever": HEAD + b"Content-Type: text/plain; format=flowed\n\n" + b">" * 900_000,
    "open tags": HEAD + b"Content-Type: text/html\n\n" + b"<a" * 4_000_000,
    "open comments": HEAD + b"Content-Type: text/html\n\n" + b"<!--" * 2_000_000,
    "open styles": HEAD + b"Content-Type: text/html\n\n" + b"<style " * 1_000_000,
    "deep blockquotes": HEAD + b"Content-Type: text/html\n\n" + b"<blockquote>x" * 600_000,
    "entities": HEAD + b"Content-Type: text/html\n\n" + b"&#x110000;&#xd800;&" * 40_000,
    "idna as charset": HEAD + b"Content-Type: text/plain; charset=idna\n\n" + b"a" * 500_000,
    "punycode as charset": HEAD + b"Content-Type: text/plain; charset=punycode\n\n-" + b"a" * 500_000,
    "zlib as charset": HEAD + b"Content-Type: text/plain; charset=zlib\n\nx",
    "NUL as charset": HEAD + b'Content-Type: text/plain; charset="\0"\n\nx',
    "half of UTF-16": HEAD + b"Content-Type: text/plain; charset=utf-16\n\n\xff\xfe\x00\xd8",
    "surrogates by UTF-7": HEAD + b"Content-Type: text/plain; charset=utf-7\n\n+2AA-+3AA-",
    "broken base64": HEAD + b"Content-Transfer-Encoding: base64\n\n" + b"A=B=" * 500_000,
    "broken quoted-printable": HEAD + b"Content-Transfer-Encoding: quoted-printable\n\n" + b"=" * 3_000_000,
    "unknown transfer encoding": HEAD + b"Content-Transfer-Encoding: x-bomb\n\nx",
    "open comments in results": HEAD + b"Authentication-Results: " + b"(" * 200_000 + b"\n\nx",
    "100,000 references": HEAD + b"References: " + b"<a@b> <c" * 50_000 + b"\n\nx",
    "a bounce of blank lines": b"From: mailer-daemon@x\nSubject: failure notice\n\n" + b"\n" * 200_000,
    "a bounce of almost addresses": b"From: mailer-daemon@x\nSubject: undelivered\n\n" + b"<a@b " * 40_000,
    "a report of blank blocks": HEAD + b"Content-Type: multipart/report; boundary=b\n\n--b\n"
    b"Content-Type: message/delivery-status\n\n" + b"Action: \x1c\n\n" * 100_000 + b"--b--",
    "escape sequences": SUBJECT + b"\n\x1b]0;owned\x07\xc2\x9b\xe2\x80\xae calibrated MS for MOUS \x1b]52;c;AA\x07",
}  # fmt: skip


def variations() -> Iterator[tuple[str, bytes]]:
    """Mails of the corpus, damaged in ways that a seeded generator chooses."""
    chooser = random.Random(20191205)
    sources = sorted(CORPUS.glob("*.eml"))
    for number in range(120):
        path = chooser.choice(sources)
        raw = path.read_bytes()
        place, length = chooser.randrange(len(raw)), chooser.randrange(1, 200)
        match number % 8:
            case 0:
                raw = raw[:place]
            case 1:
                raw = raw[place:]
            case 2:
                raw = raw[:place] + chooser.randbytes(length) + raw[place:]
            case 3:
                raw = raw[:place] + raw[place + length :]
            case 4:
                raw = raw[:place] + raw[place : place + length] * 3000 + raw[place:]
            case 5:
                raw = raw.replace(b"\n", b"\r" if length % 2 else b"\n\n")
            case 6:
                raw = raw.replace(chooser.choice([b":", b"=", b"--b1", b";"]), chooser.randbytes(2))
            case _:
                raw = base64.b64encode(raw) + raw.swapcase()
        yield f"{number}: {path.stem}", raw


def _digits(text: object) -> str:
    """Without what differs between the two spellings of a UID."""
    return str(text).replace("uid___", "uid://").replace("_", "/")


async def faults(read: Read, name: str, raw: bytes) -> list[str]:
    """Everything wrong with how a reader treats a mail."""
    started = time.monotonic()
    try:
        mail = await read(raw)
        result = classify(mail, MemoryKnown(), RULES)
    except Exception as error:
        return [f"{name}: raises {type(error).__name__}"]
    found = []
    if time.monotonic() - started > SECONDS:
        found.append(f"{name}: takes too long")
    if not mail.key or (raw.startswith(HEAD) and mail.message_id != "<hostile@evil.example>"):
        found.append(f"{name}: is not known again")
    if isinstance(result, NewRequest) and _digits(result.fields.mous) not in _digits(mail.own_text):
        found.append(f"{name}: asks for {result.fields.mous}")
    if not getattr(result, "why", "").isprintable():
        found.append(f"{name}: its reason is not safe to show")
    return found


@pytest.fixture
async def parser() -> AsyncIterator[MailParser]:
    """The parser as the engine uses it."""
    async with MailParser() as running:
        yield running


@pytest.mark.parametrize("name", BUILT)
async def test_a_mail_built_to_hurt_is_accounted_for(parser: MailParser, name: str) -> None:
    """Each known trap is read in time, and the mail is known again by its Message-ID."""
    assert await faults(parser.parse, name, BUILT[name]) == []


async def test_damaged_mails_are_accounted_for(parser: MailParser) -> None:
    """120 mails damaged by a seeded generator are read by one worker, which survives them all."""
    pid = parser.pid
    assert [fault for name, raw in variations() for fault in await faults(parser.parse, name, raw)] == []
    assert parser.pid == pid


async def test_a_careless_reader_is_caught() -> None:
    """The check above finds what Python's own parser does with nested parts: it raises."""

    async def careless(raw: bytes) -> ParsedMail:
        message = email.message_from_bytes(raw, policy=modern)
        return replace(parse_mail(raw), key=str(message["message-id"]))

    assert await faults(careless, "nested", BUILT["2,000 nested parts"]) == ["nested: raises RecursionError"]
