"""Hostile headers: whatever a request mail holds, exactly the letter meant reaches the server, or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage

from hypothesis import example, given, settings
from hypothesis import strategies as st

from aogconsole.errors import UsageError
from aogconsole.requests.letters import Draft, LetterRules, Original, edited, link, refusal, reply_subject
from aogconsole.requests.message import Letter, finish
from aogconsole.text import clean
from backends.ports import OutgoingMail, Sent
from backends.smtp import SmtpOutbox, SmtpSettings
from tests.support.smtp import Accepted, smtp_server

NOW = datetime(2026, 11, 21, 14, 2, 11, tzinfo=UTC)
RULES = LetterRules("aog@eso.org", "expert@eso.org", ("*@eso.org",), cc_refusals=True)
ALWAYS = ["From", "Date", "Message-ID", "To", "Subject", "X-AOGConsole-History", "Content-Type"]
ALWAYS += ["Content-Transfer-Encoding", "MIME-Version"]
SOMETIMES = {"Cc", "In-Reply-To", "References"}

NEEDLES = [
    "\r\nBcc: evil@x.example",
    "\nBcc: evil@x.example\n\nbody",
    "\rBcc: evil@x.example",
    "\r\n\r\nsecond body",
    "\r\n.\r\nMAIL FROM:<evil@x.example>",
    "\x00",
    "\x85Bcc: evil@x.example",
    "\u2028Bcc: evil@x.example",
    "\u2029",
    "\x0b\x0c\x1c\x1d\x1e",
    "=?utf-8?q?=0D=0ABcc:_evil=40x.example?=",
    "=?utf-8?b?DQpCY2M6IGV2aWxAeC5leGFtcGxl?=",
    "=?utf-8?q?a?= =?utf-8?q?b?=",
    ", evil@x.example",
    "; evil@x.example",
    "<evil@x.example>",
    "> SIZE=1\r\nRCPT TO:<evil@x.example",
    '"evil@x.example" <',
    "(comment)",
    "group: evil@x.example;",
    "\ud800",
    "\u202e",
    "é",
    "x" * 1200,
]
PARTS = st.sampled_from([*NEEDLES, "helper@eso.org", "<id@eso.org>", "Re: ", "ALMA: REQUEST", " ", "\t"]) | st.text(
    max_size=8
)
FIELD = st.lists(PARTS, max_size=4).map("".join)
ADDRESS = st.sampled_from(["helper@eso.org", "second@eso.org", "AOG@eso.org"]) | FIELD


@st.composite
def hostile(draw: st.DrawFn) -> Original:
    """A request mail with anything in every field."""
    lists = st.lists(ADDRESS, max_size=3).map(tuple)
    ids = st.sampled_from(["<id@eso.org>"]) | FIELD
    return Original(
        draw(ids), draw(st.lists(ids, max_size=3).map(tuple)), draw(FIELD), draw(ADDRESS), draw(lists), draw(lists),
        draw(FIELD), NOW,
    )  # fmt: skip


def letters_of(mail: Original, user: str) -> list[tuple[Draft, Letter]]:
    """The letters that answer the mail, as far as they can be written."""
    drafts: list[Draft] = []
    for kind in ("refusal", "link"):
        with expected_errors():
            drafts.append(
                refusal("not_entitled", mail, RULES)
                if kind == "refusal"
                else link(mail, user, "http://x.example/1", 28, RULES)
            )
    return [(draft, finish(draft, "<1.abc@eso.org>", NOW, "1 ab", RULES)) for draft in drafts]


@contextmanager
def expected_errors() -> Iterator[None]:
    """A usage error is an answer too, when it is one clean line."""
    try:
        yield
    except UsageError as error:
        if clean(str(error)) != str(error):
            raise AssertionError from error


def check(draft: Draft, letter: Letter, data: bytes) -> None:
    """The bytes hold exactly the headers, recipients and text meant, however they are read."""
    lines = data.partition(b"\r\n\r\n")[0].split(b"\r\n")
    names = [line.partition(b":")[0].decode("ascii") for line in lines if not line.startswith(b" ")]
    assert sorted(names) == sorted([*ALWAYS, *SOMETIMES.intersection(names)])
    message = message_from_bytes(data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    assert message.keys() == names
    listed = [box.addr_spec for name in ("To", "Cc") if name in message for box in message[name].addresses]
    assert tuple(listed) == letter.recipients == (*draft.to, *draft.cc)
    assert not [address for address in listed if "evil" in address]
    assert str(message["Subject"]) == draft.subject
    assert message.get_content().replace("\r\n", "\n") == draft.body + "\n"


@given(mail=hostile(), user=st.just("user@uni.example") | ADDRESS)
@settings(max_examples=300, deadline=None)
@example(Original("", (), "=?utf-8?q?=0D=0ABcc:_evil=40x.example?=", "helper@eso.org", (), (), "", NOW), "u@x.org")
def test_letters_say_only_what_was_meant(mail: Original, user: str) -> None:
    """Every field of the request, and the user's address, with CR, LF, NUL, separators, encoded words, brackets."""
    for draft, letter in letters_of(mail, user):
        check(draft, letter, letter.data)


@given(
    text=st.lists(PARTS | st.sampled_from(["To: a@b\n", "Cc: c@d\n", "Subject: x\n", "\n"]), max_size=6).map("".join)
)
@settings(max_examples=300, deadline=None)
def test_edits_say_only_what_was_meant(text: str) -> None:
    """Whatever an editor leaves behind: the letter it says, or an error."""
    mail = Original("<id@eso.org>", (), "x", "helper@eso.org", (), (), "", NOW)
    with expected_errors():
        draft = edited(refusal("not_entitled", mail, RULES), text)
        letter = finish(draft, "<1.abc@eso.org>", NOW, "1 ab", RULES)
        check(draft, letter, letter.data)


@given(st.text())
def test_subjects_are_one_line(text: str) -> None:
    """No subject holds a control character or a separator, and none grows beyond its limit."""
    assert clean(reply_subject(text)) == reply_subject(text)
    assert len(reply_subject(text)) <= 204


def test_nothing_else_reaches_the_server() -> None:
    """Through real SMTP: each needle in every field at once gives the letter meant, envelope and bytes, or nothing."""
    letters = []
    for needle in NEEDLES:
        for sender in ("helper@eso.org", f"helper{needle}@eso.org", f"helper@eso.org{needle}"):
            known = (f"<a{needle}@eso.org>", f"<b@eso.org>{needle}")
            people = ("second@eso.org", f"second@eso.org{needle}", f"{needle}second@eso.org")
            mail = Original(known[0], known, f"ALMA{needle}x", sender, people, people, f"a{needle}b", NOW)
            letters += letters_of(mail, "user@uni.example")
    assert len(letters) >= 2 * len(NEEDLES)
    with smtp_server() as server:
        outbox = SmtpOutbox(SmtpSettings(server.host, server.port, "none"))

        async def send_all() -> None:
            for _, letter in letters:
                mail = OutgoingMail(letter.message_id, letter.sender, letter.recipients, letter.data)
                assert await outbox.send(mail, lambda: None) == Sent("250 2.0.0 queued")

        asyncio.run(send_all())
        assert server.accepted == [Accepted(one.sender, one.recipients, one.data) for _, one in letters]
        assert server.commands.count("RCPT") == sum(len(letter.recipients) for _, letter in letters)
    for (draft, letter), accepted in zip(letters, server.accepted, strict=True):
        check(draft, letter, accepted.data)
