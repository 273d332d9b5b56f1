"""Letters: the seed's texts, who gets them, and the bytes that go out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aogconsole.errors import InvalidId, UsageError
from aogconsole.requests.addresses import checked_address, distinct, is_address, matches
from aogconsole.requests.letters import (
    BODY_LIMIT,
    Draft,
    LetterRules,
    Original,
    RefusalKind,
    editable,
    edited,
    expert,
    helpdesk_reply,
    link,
    refusal,
    reply_subject,
    texts,
)
from aogconsole.requests.message import finish, new_message_id, preview

NOW = datetime(2026, 11, 21, 14, 2, 11, tzinfo=UTC)
URL = "http://almascience.eso.org/arcdistribution/preview/cdb386950af8ee148b3a9bc633942c6a"
RULES = LetterRules("aog@eso.org", "dpetry@eso.org", ("*@eso.org",))
HISTORY = "7 0123456789abcdef"

REQUEST = """Dear AOG,
please create the calibrated MS for MOUS uid___A001_X133d_X1244
project 2012.1.00357.S
for user jdoe
helpdesk ticket 15270

Thanks!"""

LINK_BODY = """Your calibrated data is ready for download from
http://almascience.eso.org/arcdistribution/preview/cdb386950af8ee148b3a9bc633942c6a

It will be deleted 28 days from now.

Kind regards,

The ESO ALMA Team"""


def original(**changes: object) -> Original:
    """The seed's request mail, handed on by helper@eso.org."""
    values: dict[str, object] = {
        "message_id": "<req1@eso.org>",
        "references": (),
        "subject": "ALMA: REQUEST FOR CALIBRATED DATA MOUS uid___A001_X133d_X1244",
        "from_address": "helper@eso.org",
        "to": ("aog@eso.org",),
        "cc": ("dpetry@eso.org",),
        "text": REQUEST,
        "received_at": NOW,
    }
    return Original(**{**values, **changes})  # type: ignore[arg-type]


def finished(draft: Draft, message_id: str = "<1.abc@eso.org>") -> EmailMessage:
    """The draft as its reader's program sees it."""
    message = message_from_bytes(finish(draft, message_id, NOW, HISTORY, RULES).data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def body_of(message: EmailMessage) -> str:
    """The decoded body; how the wire ends lines is the reader's program's business."""
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


# ── texts ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("not_entitled", "NOT ENTITLED"),
        ("invalid_user", "INVALID USER ID"),
        ("invalid_mous", "INVALID MOUS UID"),
        ("not_delivered", "MOUS NOT DELIVERED"),
    ],
)
def test_refusal_stands_above_the_quoted_request(kind: RefusalKind, text: str) -> None:
    """A refusal is the seed's words, an empty line, and the request with `> ` before each line, to its sender."""
    draft = refusal(kind, original(), RULES)
    quoted = "\n".join(f"> {line}" if line else ">" for line in REQUEST.split("\n"))
    assert draft.body == f"{text}\n\n{quoted}"
    assert (draft.to, draft.cc) == (("helper@eso.org",), ())


def test_link_letter_is_the_seeds() -> None:
    """To the user's address, CC the sender and the expert, the seed's subject and text, in the request's thread."""
    draft = link(original(), "user@uni.example", URL, 28, RULES)
    assert draft.body == LINK_BODY
    assert (draft.to, draft.cc) == (("user@uni.example",), ("helper@eso.org", "dpetry@eso.org"))
    assert draft.subject == "Re: ALMA: REQUEST FOR CALIBRATED DATA MOUS uid___A001_X133d_X1244"
    assert (draft.in_reply_to, draft.references) == ("<req1@eso.org>", ("<req1@eso.org>",))


def test_one_day_left_is_singular() -> None:
    """The number of days reads as a person would write it."""
    assert "deleted 1 day from now." in link(original(), "user@uni.example", URL, 1, RULES).body


@pytest.mark.parametrize(("url", "days"), [(URL, 0), (URL, -3), ("http://x/ y", 3), ("javascript:x", 3), ("", 3)])
def test_no_link_to_what_is_not_there(url: str, days: int) -> None:
    """A link letter needs a web address and at least a day."""
    with pytest.raises(UsageError):
        link(original(), "user@uni.example", url, days, RULES)


def test_helpdesk_reply_is_the_seeds() -> None:
    """What the helpdesk tells a user who is not entitled."""
    assert helpdesk_reply() == (
        "You presently do not have access permission for the requested data.\n"
        "Please wait until the data becomes public."
    )


def test_site_replaces_a_text() -> None:
    """A site's file replaces ours, and is filled in one pass: braces in a value are left alone."""
    rules = LetterRules("a@eso.org", "e@eso.org", (), templates=texts({"link.txt": "{days}: {url}\n"}))
    assert link(original(), "u@x.org", "http://x/{days}", 2, rules).body == "2 days: http://x/{days}"
    assert refusal("not_entitled", original(), rules).body.startswith("NOT ENTITLED\n\n> ")


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("link.txt", "{url} {days} {user}", "{user}"),
        ("link.txt", "{url} {0}", "{0}"),
        ("link.txt", "in {days}", "{url}"),
        ("not_entitled.txt", "no {url}", "{url}"),
        ("farewell.txt", "bye", "farewell.txt"),
    ],
)
def test_site_text_is_checked(name: str, text: str, named: str) -> None:
    """A place that nothing fills, a missing one, or an unknown file is an error that names file and place."""
    with pytest.raises(UsageError) as caught:
        texts({name: text})
    assert name in str(caught.value)
    assert named in str(caught.value)


# ── who gets it ──────────────────────────────────────────────────────────────────────────────────────────────


def test_link_letter_copies_only_the_sites_people() -> None:
    """Of the request's To and CC only listed addresses are copied, ours never, each once whatever its case."""
    mail = original(
        to=("aog@eso.org", "Second@ESO.org", "x@evil.example"),
        cc=(
            "dpetry@eso.org",
            "second@eso.org",
            "DPETRY@eso.org",
            "bad\r\nBcc: x@eso.org",
            "a,b@eso.org",
            "AOG@eso.org",
        ),
    )
    draft = link(mail, "user@uni.example", URL, 28, RULES)
    assert draft.cc == ("helper@eso.org", "dpetry@eso.org", "Second@ESO.org")


def test_refusal_is_copied_when_the_site_says_so() -> None:
    """With `cc_refusals` a refusal goes to those who get the link letter's copy."""
    rules = LetterRules("aog@eso.org", "dpetry@eso.org", ("*@eso.org",), cc_refusals=True)
    draft = refusal("not_delivered", original(cc=("second@eso.org",)), rules)
    assert (draft.to, draft.cc) == (("helper@eso.org",), ("dpetry@eso.org", "second@eso.org"))


def test_nobody_is_addressed_twice() -> None:
    """A user who is the sender too gets one copy."""
    assert link(original(), "Helper@eso.org", URL, 28, RULES).cc == ("dpetry@eso.org",)


@pytest.mark.parametrize("address", ["", "helper", "a@b@c", "é@eso.org", "x@eso.org, y@eso.org", "<x@eso.org>"])
def test_no_letter_to_what_is_no_address(address: str) -> None:
    """A letter to an unusable address is an error, and never a letter."""
    with pytest.raises(InvalidId):
        link(original(), address, URL, 28, RULES)
    with pytest.raises(InvalidId):
        refusal("not_entitled", original(from_address=address), RULES)


@pytest.mark.parametrize("text", ["a@b", "first.last+tag@eso.org", "o'neil@x-y.example.org", "a" * 64 + "@x.org"])
def test_addresses(text: str) -> None:
    """Plain ASCII addresses pass unchanged."""
    assert checked_address(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *("a@b\n", "a b@c", ".a@b", "a..b@c", "a@-b", "a@b-", "a@b..c", '"a"@b', "a@[1.2.3.4]", "a" * 65 + "@x.org"),
        *("a\x00@b", "a@b,c@d", "a@" + "b." * 126 + "org", "a@b;", "(c)a@b", "a@ü.org", "=?utf-8?q?a?=@b", "a\u2028@b"),
    ],
)
def test_not_addresses(text: str) -> None:
    """Anything that could be, or become, more than one bare address is refused; the message is one clean line."""
    assert not is_address(text)
    assert not matches(text, ["*"])
    with pytest.raises(InvalidId) as caught:
        checked_address(text)
    assert str(caught.value).isprintable()
    assert ("internationalised" in str(caught.value)) == (not text.isascii())


def test_lists_of_senders() -> None:
    """Patterns match the whole address, upper and lower case alike."""
    assert matches("Some.One@ESO.org", ["*@eso.org"])
    assert not matches("some.one@eso.org.evil.example", ["*@eso.org"])
    assert not matches("some.one@xeso.org", ["*@eso.org", "*@alma.cl"])
    assert distinct(["a@b", "A@b", "c@d"], without=["C@D"]) == ("a@b",)


# ── threads and subjects ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("subject", "reply"),
    [
        ("a", "Re: a"),
        ("Re: a", "Re: a"),
        ("RE: re:Re : a", "Re: a"),
        ("Regarding: a", "Re: Regarding: a"),
        ("a\r\nBcc: x@y", "Re: a Bcc: x@y"),
        ("a\u2028b\x85c\x00d\te", "Re: a b c d e"),
        ("a\u202eb", "Re: a\\u202eb"),
        ("x" * 300, "Re: " + "x" * 200),
        ("", "Re:"),
    ],
)
def test_reply_subject(subject: str, reply: str) -> None:
    """One line, one `Re: `, at most 200 characters of the original."""
    assert reply_subject(subject) == reply
    assert reply_subject(reply) == reply


def test_thread_is_continued_and_capped() -> None:
    """References keep the thread's first message and the last nineteen; what is no Message-ID is left out."""
    old = tuple(f"<{number}@x>" for number in range(40))
    draft = refusal("not_entitled", original(references=(*old, "<a b>", "<x>\r\nBcc: y")), RULES)
    assert draft.references == ("<0@x>", *old[22:], "<req1@eso.org>")
    assert draft.in_reply_to == "<req1@eso.org>"
    message = finished(draft)
    assert message["References"].split() == list(draft.references)


def test_request_without_message_id() -> None:
    """A request without a usable Message-ID is answered outside a thread."""
    message = finished(refusal("not_entitled", original(message_id="nothing"), RULES))
    assert "In-Reply-To" not in message
    assert "References" not in message


# ── the expert's letter ──────────────────────────────────────────────────────────────────────────────────────


def test_expert_letter_has_command_line_and_whole_output() -> None:
    """Command line, then all of the output, control bytes visible, lines kept."""
    output = b"\x1b[31mFailed.\x1b[0m Please investigate\r\n\tWORK\xff\xc3\xa9\n"
    draft = expert(original(), "stagecalms.sh 2012.1.00357.S uid___A001_X133d_X1244 15270", output, RULES)
    assert draft.to == ("dpetry@eso.org",)
    assert draft.body == (
        "stagecalms.sh 2012.1.00357.S uid___A001_X133d_X1244 15270\n"
        "\\x1b[31mFailed.\\x1b[0m Please investigate\n\tWORK\\xffé"
    )
    assert draft.attachment is None


@pytest.mark.parametrize(
    "output", [b"line of output\n" * 100_000, b"x" * (BODY_LIMIT + 1), b"\x00" * BODY_LIMIT],
    ids=["lines", "one line", "zeros"],
)  # fmt: skip
def test_huge_output_is_shortened_and_attached_whole(output: bytes) -> None:
    """Beyond the limit the body has head and tail, with a line in the middle that says so; the file is complete."""
    draft = expert(original(), "stagecalms.sh", output, RULES)
    assert len(draft.body) < BODY_LIMIT + 300
    assert f"the whole output, {len(output)} bytes, is attached as terminal.log" in draft.body
    message = finished(draft)
    (part,) = message.iter_attachments()
    assert part.get_filename() == "terminal.log"
    assert part.get_content() == output
    assert f"[terminal.log: {len(output)} bytes]" in preview(message.as_bytes())


def test_output_at_the_limit_is_whole() -> None:
    """Just as much as fits stays in the body."""
    draft = expert(original(), "stagecalms.sh", b"y" * BODY_LIMIT, RULES)
    assert draft.body == "stagecalms.sh\n" + "y" * BODY_LIMIT
    assert draft.attachment is None


# ── the bytes ────────────────────────────────────────────────────────────────────────────────────────────────


def test_finished_letter() -> None:
    """Exactly the headers meant, in the form mail travels in; the same arguments give the same bytes."""
    draft = link(original(subject="Anfrage für Daten", references=("<old@x>",)), "user@uni.example", URL, 28, RULES)
    message_id = new_message_id("17.abc", RULES.address)
    letter = finish(draft, message_id, NOW, HISTORY, RULES)
    assert letter == finish(draft, message_id, NOW, HISTORY, RULES)
    assert (letter.message_id, letter.sender) == ("<17.abc@eso.org>", "aog@eso.org")
    assert letter.recipients == ("user@uni.example", "helper@eso.org", "dpetry@eso.org")
    message = message_from_bytes(letter.data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    assert {name: str(value) for name, value in message.items()} == {
        "From": "aog@eso.org",
        "Date": "Sat, 21 Nov 2026 14:02:11 +0000",
        "Message-ID": "<17.abc@eso.org>",
        "To": "user@uni.example",
        "Cc": "helper@eso.org, dpetry@eso.org",
        "Subject": "Re: Anfrage für Daten",
        "In-Reply-To": "<req1@eso.org>",
        "References": "<old@x> <req1@eso.org>",
        "X-AOGConsole-History": HISTORY,
        "Content-Type": 'text/plain; charset="utf-8"',
        "Content-Transfer-Encoding": "7bit",
        "MIME-Version": "1.0",
    }
    assert body_of(message) == LINK_BODY + "\n"
    assert letter.data.replace(b"\r\n", b"").find(b"\n") == -1


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=3000))
def test_every_body_survives_the_journey(text: str) -> None:
    """Whatever was quoted: 7 bit, lines under 998 bytes, and the reader gets the draft's body back."""
    draft = refusal("invalid_user", original(text=text), RULES)
    letter = finish(draft, "<1@eso.org>", NOW, HISTORY, RULES)
    assert letter.data.isascii()
    assert max(map(len, letter.data.split(b"\r\n"))) <= 998
    assert body_of(finished(draft)) == draft.body + "\n"


@pytest.mark.parametrize(
    "body", ["x" * 5000, "é" * 5000, "日本語" * 2000, ".\n..\nFrom me\n", "trailing \t \nspaces  "]
)
def test_awkward_bodies(body: str) -> None:
    """Long lines, other scripts, dots and blanks arrive as they were written."""
    draft = edited(refusal("invalid_user", original(), RULES), f"To: a@b\nSubject: x\n\n{body}")
    assert body_of(finished(draft)) == body.rstrip("\n") + "\n"


@pytest.mark.parametrize(
    ("message_id", "history"), [("<a@b>\r\nBcc: x", HISTORY), ("a@b", HISTORY), ("<a@b>", "7\nX: y"), ("<a@b>", "")]
)
def test_our_own_values_are_checked_too(message_id: str, history: str) -> None:
    """A Message-ID or history head that could break the head is an error."""
    with pytest.raises(InvalidId):
        finish(refusal("invalid_user", original(), RULES), message_id, NOW, history, RULES)
    with pytest.raises(InvalidId):
        new_message_id("a b", RULES.address)


def test_preview_is_what_a_person_reads() -> None:
    """Decoded headers, an empty line, the decoded body; nothing in it reaches a terminal as a control."""
    letter = finish(
        refusal("invalid_user", original(subject="für", text="é\x1b]0;x\x07"), RULES), "<1@b>", NOW, "0", RULES
    )
    shown = preview(letter.data)
    assert "\nSubject: Re: für\n" in shown
    assert shown.endswith("\n\nINVALID USER ID\n\n> é\\x1b]0;x\\x07\n")


# ── drafts, stored and edited ────────────────────────────────────────────────────────────────────────────────


@given(
    st.text(max_size=200).map(reply_subject).filter(lambda subject: subject != "Re:"),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=500),
    st.none() | st.binary(max_size=100),
)
def test_drafts_survive_storing_and_editing(subject: str, text: str, attachment: bytes | None) -> None:
    """A draft is the same after JSON, and after an editor that changes nothing."""
    base = refusal("invalid_mous", original(text=text), RULES)
    draft = Draft(base.kind, base.to, base.cc, subject, base.body, base.in_reply_to, base.references, attachment)
    assert Draft.from_json(json.loads(json.dumps(draft.to_json()))) == draft
    assert edited(draft, editable(draft)) == draft


def test_edited_letter() -> None:
    """The operator changes recipients, subject and text; the thread is kept."""
    draft = link(original(), "user@uni.example", URL, 28, RULES)
    changed = edited(draft, "subject: other\r\nTO: a@b, C@d ,\r\nCc: c@d, e@f\r\n\r\nHello\r\n\r\nthere\r\n\r\n")
    assert (changed.to, changed.cc, changed.subject) == (("a@b", "C@d"), ("e@f",), "Re: other")
    assert changed.body == "Hello\n\nthere"
    assert (changed.in_reply_to, changed.references) == (draft.in_reply_to, draft.references)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("To: a@b\nBcc: x@y\nSubject: s\n\nx", "line 2"),
        ("To: a@b\nTo: c@d\nSubject: s\n\nx", "line 2"),
        ("To: a@b\nSubject: s\nCc: c d\n\nx", "line 3"),
        ("To: a@b\n c@d\nSubject: s\n\nx", "line 2"),
        ("To: é@b\nSubject: s\n\nx", "line 1"),
        ("To: \nSubject: s\n\nx", "To:"),
        ("To: a@b\n\nx", "Subject:"),
        ("", "line 1"),
    ],
)
def test_wrong_edits_are_named(text: str, named: str) -> None:
    """An edit that is not a letter is an error with the line it is in."""
    with pytest.raises(UsageError) as caught:
        edited(refusal("invalid_mous", original(), RULES), text)
    assert named in str(caught.value)


def test_text_files_hold_one_text_each() -> None:
    """Every kind has its own text."""
    assert all(one != other for one, other in pairwise(sorted(texts().values())))
