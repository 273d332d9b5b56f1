"""From a draft to the bytes that go out, and from those back to what a person reads.

Headers are written from validated values only, and the finished head is read again: exactly the headers and the
recipients that were meant, or an error (reliability F15).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.header import Header, decode_header, make_header
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import format_datetime, getaddresses
from hashlib import sha256

from aogconsole.errors import InvalidId, UsageError
from aogconsole.requests.addresses import checked_address, distinct
from aogconsole.requests.letters import Draft, LetterRules, is_message_id, reply_subject
from aogconsole.text import clean, clean_lines

HISTORY_HEADER = "X-AOGConsole-History"
"""Carries the head of the journal's history at the sending, so that a shortened history shows."""

_TOKEN = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_HISTORY = re.compile(r"[0-9]{1,18}(?: [0-9a-f]{1,64})?", re.ASCII)
_LONGEST_LINE = 998


@dataclass(frozen=True)
class Letter:
    """A finished letter: the envelope, and its bytes."""

    message_id: str
    sender: str
    recipients: tuple[str, ...]
    data: bytes
    """RFC 5322, CRLF, 7 bit, lines up to 998 bytes."""


def new_message_id(token: str, address: str) -> str:
    """The Message-ID `<token@domain of address>`; the token is ours, and never used twice. Raises InvalidId."""
    if not _TOKEN.fullmatch(token):
        raise InvalidId(f"'{clean(token[:80])}' cannot be part of a Message-ID", "use letters, digits, . _ -")
    return f"<{token}@{checked_address(address).rpartition('@')[2]}>"


def finish(draft: Draft, message_id: str, sent_at: datetime, history_head: str, rules: LetterRules) -> Letter:
    """The letter as it goes out; the same arguments give the same bytes.

    `history_head` is `SEQ HASH`, or `0` while there is none. Raises InvalidId for an unusable address, Message-ID or
    history head, UsageError when the finished letter would not be exactly the one meant.
    """
    answered = [known for known in (draft.in_reply_to, *draft.references) if known is not None]
    wrong = [text for text in (message_id, *answered) if not is_message_id(text)]
    wrong += [] if _HISTORY.fullmatch(history_head) else [history_head]
    if wrong:
        raise InvalidId(f"'{clean(wrong[0][:80])}' cannot stand in a letter's head", "report this: a fault of ours")
    sender = checked_address(rules.address)
    to = distinct(map(checked_address, draft.to))
    cc = distinct(map(checked_address, draft.cc), without=to)
    subject = reply_subject(draft.subject)
    headers = {
        "From": sender,
        "Date": format_datetime(sent_at.astimezone(UTC)),
        "Message-ID": message_id,
        "To": ",\r\n ".join(to),
        "Cc": ",\r\n ".join(cc),
        "Subject": _encoded(subject),
        "In-Reply-To": draft.in_reply_to or "",
        "References": "\r\n ".join(draft.references),
        HISTORY_HEADER: history_head,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value)
    mime = _mime(draft, message_id)
    data = head.encode("ascii") + mime.as_bytes(policy=policy.SMTP)
    _verify(data, [name for name, value in headers.items() if value] + mime.keys(), to + cc, subject)
    return Letter(message_id, sender, to + cc, data)


def _encoded(subject: str) -> str:
    # what looks like an encoded word is encoded too, or the reader would decode it
    if subject.isascii() and "=?" not in subject:
        return subject
    return Header(subject, "utf-8", header_name="Subject").encode(linesep="\r\n")


def _mime(draft: Draft, message_id: str) -> EmailMessage:
    body = clean_lines(draft.body) + "\n"
    plain = body.isascii() and max(map(len, body.split("\n"))) <= _LONGEST_LINE
    mime = EmailMessage(policy=policy.default.clone(cte_type="7bit"))
    mime.set_content(body, cte="7bit" if plain else None)
    if draft.attachment is not None:
        mime.add_attachment(draft.attachment, "application", "octet-stream", filename="terminal.log")
        # no body can hold the hash of itself, so none can end its part
        mime.set_boundary("=_aog_" + sha256(f"{message_id} {body}".encode()).hexdigest()[:32])
    return mime


def _verify(data: bytes, names: list[str], recipients: tuple[str, ...], subject: str) -> None:
    """Read the finished letter as a stranger would; raises UsageError when it is not exactly what was meant."""
    head, _, _ = data.partition(b"\r\n\r\n")
    found = BytesParser(policy=policy.compat32).parsebytes(head + b"\r\n\r\n", headersonly=True)
    listed = [address for _, address in getaddresses([*found.get_all("To", []), *found.get_all("Cc", [])])]
    ends = {data.count(b"\r\n"), data.count(b"\r"), data.count(b"\n")}
    whole = data.isascii() and b"\0" not in data and len(ends) == 1
    whole = whole and max(map(len, data.split(b"\r\n"))) <= _LONGEST_LINE
    same = found.keys() == names and listed == list(recipients)
    if not (whole and same and recipients and str(make_header(decode_header(found["Subject"]))) == subject):
        raise UsageError(
            "the letter cannot be written so that it says exactly what was meant", "edit it, and try again"
        )


def preview(data: bytes) -> str:
    """A finished letter for a person: headers, an empty line, the decoded body; safe for a terminal."""
    message = message_from_bytes(data, policy=policy.default)
    lines = [f"{name}: {clean(str(value))}" for name, value in message.items()]
    body = message.get_body(("plain",))
    text = clean_lines(body.get_content()) if body else ""
    attached = [f"[{part.get_filename()}: {len(part.get_content())} bytes]\n" for part in message.iter_attachments()]
    return "\n".join(lines) + "\n\n" + text + "".join(attached)
