"""What a mail says: bytes to a `ParsedMail`. Pure; it never raises, whatever the bytes (reliability F17).

It runs in a worker process (aogconsole.mailworker), so that a hostile mail costs that process and nothing else.
Everything in a ParsedMail but ids and addresses is untrusted text: not cleaned, but free of lone surrogates.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from aogconsole.requests import bounces, mime, quoting
from aogconsole.requests.bounces import Bounce
from aogconsole.requests.html import html_to_text
from aogconsole.requests.mime import Entity, Walk

MailLimits = mime.Limits
UID_LIKE = re.compile(r"uid(?:_{2,}|:/+)[^\s<>\"',;()\[\]{}|*]*", re.IGNORECASE)
"""Whatever looks as if it were meant for a UID; only ids.MousUid says whether it is one."""
_COMMENT = re.compile(r"[()\\\"]")
_DMARC = re.compile(r"\s*dmarc\s*=\s*([a-z]+)", re.IGNORECASE)
_HEADER_FROM = re.compile(r"header\.from\s*=\s*\"?(?:[^\s\"@;]*@)?([a-z0-9.-]+)", re.IGNORECASE)
_AUTO_SUBJECT = re.compile(r"\s*(?:automatic reply|auto(?:reply|-reply| reply|:)|out of (?:the )?office|"
                           r"abwesenheit|automatische antwort)", re.IGNORECASE)  # fmt: skip
_MOST = 200
"""Entries kept of each list: addresses, references, UIDs."""


@dataclass(frozen=True)
class Authentication:
    """One Authentication-Results header (RFC 8601), as far as DMARC is concerned."""

    server: str
    """The authserv-id, in lower case."""
    dmarc: str
    """`pass`, `fail`, ...; empty when the header says nothing of DMARC."""
    domain: str
    """The From domain it was checked for, in lower case."""


@dataclass(frozen=True)
class ParsedMail:
    """A mail, read. Lists hold at most 200 entries, texts are cut at the limits, and `problems` says so."""

    key: str
    """What makes it the same mail again: its Message-ID, or `sha256:` of its bytes when it has none."""
    message_id: str
    """With angle brackets; empty when there is none that can be used."""
    in_reply_to: str
    references: tuple[str, ...]
    from_address: str
    """Empty unless there is exactly one From address that can be read with certainty."""
    from_name: str
    from_count: int
    to: tuple[str, ...]
    cc: tuple[str, ...]
    subject: str
    text: str
    """The plain text body, decoded; of an HTML mail a plain rendition. Lines end with LF."""
    own_text: str
    """`text` without what is quoted or forwarded, and without the signature."""
    text_problem: str = ""
    """Why `text` may not be what was meant; empty when it is."""
    html_text: str = ""
    """A plain rendition of the HTML versions of the text: a person reads those."""
    forwarded: str | None = None
    """The text of the mail that this one forwards; None when it is no forward."""
    attached_messages: int = 0
    auto_submitted: str = ""
    """`auto-replied` or `auto-generated`; empty for a mail of a person."""
    bounce: Bounce | None = None
    authentication: tuple[Authentication, ...] = ()
    """Topmost first."""
    problems: tuple[str, ...] = ()
    """Sentences about what could not be read; such a mail is for a person."""
    size: int = 0

    @property
    def answers(self) -> tuple[str, ...]:
        """The message ids it answers, the nearest first."""
        return tuple(dict.fromkeys(filter(None, (self.in_reply_to, *reversed(self.references)))))

    def to_json(self) -> dict[str, Any]:
        """For the worker's answer and the journal."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The mail that `to_json` wrote."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in document.items()
        }
        values["authentication"] = tuple(Authentication(**entry) for entry in document["authentication"])
        if bounce := document["bounce"]:
            values["bounce"] = Bounce(**{**bounce, "recipients": tuple(bounce["recipients"])})
        return cls(**values)


def parse_mail(raw: bytes, limits: MailLimits = MailLimits(), size: int | None = None) -> ParsedMail:  # noqa: B008
    """Read a mail. `size` is its full size when `raw` is only its first part."""
    mail, top = _headers(raw, limits, len(raw) if size is None else size)
    tree = mime.walk(top, limits)
    for sentence in mail.problems:
        tree.problem(sentence)
    text, text_problem, html_text = _text(tree, limits)
    bounce = bounces.find(top, tree.leaves, text, mail.from_address, mail.subject)
    attached = [leaf for leaf in tree.leaves if leaf.content_type in ("message/rfc822", "message/global")]
    partial = [leaf for leaf in tree.leaves if leaf.content_type in ("message/partial", "message/external-body")]
    return replace(
        mail,
        text=text,
        own_text=quoting.own_text(text),
        text_problem=text_problem,
        html_text=html_text,
        forwarded=None if bounce else _forwarded(mail, text, attached, limits),
        attached_messages=0 if bounce else len(attached) + len(partial),
        references=_references(mail.references, tree),
        bounce=bounce,
        problems=tuple(tree.problems),
    )


def salvage(raw: bytes, size: int, why: str) -> ParsedMail:
    """What the first 64 kB of headers say of a mail that could not be read otherwise, for `why`."""
    mail, _ = _headers(raw, MailLimits(size=65536, headers=65536), size)
    return replace(mail, key=mail.message_id or _digest(raw), problems=(why,))


def _digest(raw: bytes) -> str:
    return "sha256:" + hashlib.sha256(raw.replace(b"\r\n", b"\n")).hexdigest()


def _headers(raw: bytes, limits: MailLimits, size: int) -> tuple[ParsedMail, Entity]:
    problems = []
    if size > limits.size or len(raw) > limits.size:
        problems.append(f"it is larger than {limits.size} bytes")
    elif size > len(raw):
        problems.append(f"only {len(raw)} of its {size} bytes could be read")
    top = mime.read_entity(raw[: limits.size].replace(b"\r\n", b"\n"), limits.headers)
    subjects = top.all("subject")
    if len(set(subjects)) > 1:
        problems.append("it has more than one subject")
    subject = mime.decode_words(subjects[0] if subjects else "")
    if len(subject) > 2000:
        problems.append("its subject is longer than 2000 characters")
    senders = [box for value in top.all("from") for box in mime.mailboxes(value)]
    message_id = _message_id(top.get("message-id"))
    mail = ParsedMail(
        key=message_id or _digest(raw),
        message_id=message_id,
        in_reply_to=next(iter(mime.message_ids(top.get("in-reply-to"))), ""),
        references=mime.message_ids(" ".join(top.all("references")))[-_MOST:],
        from_address=senders[0].address if len(senders) == 1 else "",
        from_name=senders[0].name if len(senders) == 1 else "",
        from_count=len(senders),
        to=_addresses(top, "to"),
        cc=_addresses(top, "cc"),
        subject=subject[:2000],
        text="",
        own_text="",
        auto_submitted=_auto_submitted(top, subject),
        authentication=tuple(map(_authentication, top.all("authentication-results")[:_MOST])),
        problems=tuple(problems),
        size=size,
    )
    return mail, top


def _message_id(value: str) -> str:
    """Spaces inside and missing angle brackets are mended, so that a redelivered mail is known again."""
    text = "".join(value[:1000].split())
    found = mime.message_ids(text if text.startswith("<") else f"<{text}>")
    return found[0] if found else ""


def _addresses(top: Entity, name: str) -> tuple[str, ...]:
    boxes = (box for value in top.all(name) for box in mime.mailboxes(value))
    return tuple(dict.fromkeys(box.address for box in boxes if box.address))[:_MOST]


def _auto_submitted(top: Entity, subject: str) -> str:
    value = top.get("auto-submitted").split(";")[0].strip().lower()
    if value in ("auto-replied", "auto-notified") or _AUTO_SUBJECT.match(subject):
        return "auto-replied"
    if top.get("x-autoreply") or top.get("x-autorespond") or top.get("precedence").lower() == "auto_reply":
        return "auto-replied"
    return "auto-generated" if value not in ("", "no") else ""


def _authentication(value: str) -> Authentication:
    server, *results = _without_comments(value[:10_000]).split(";")
    checks = [(found[1].lower(), result) for result in results if (found := _DMARC.match(result))]
    # Several results: the worst counts.
    verdict, result = next((check for check in checks if check[0] != "pass"), checks[0] if checks else ("", ""))
    domain = _HEADER_FROM.search(result)
    words = server.split()
    return Authentication(words[0].lower() if words else "", verdict, domain[1].lower() if domain else "")


def _without_comments(value: str) -> str:
    kept: list[str] = []
    depth = last = 0
    quoted = False
    for found in _COMMENT.finditer(value):
        if found.start() < last:
            continue
        if not depth:
            kept.append(value[last : found.start()])
        last = found.end()
        match found[0]:
            case "\\":
                last += 1
            case '"' if not depth:
                quoted = not quoted
            case "(" if not quoted:
                depth += 1
            case ")" if not quoted:
                depth = max(depth - 1, 0)
    return "".join(kept) + ("" if depth else value[last:])


def _references(found: tuple[str, ...], tree: Walk) -> tuple[str, ...]:
    """A receipt (RFC 8098) names the mail it is for inside itself."""
    for leaf in tree.leaves:
        if leaf.content_type == "message/disposition-notification":
            original = mime.read_entity(leaf.body.lstrip(), 10_000).get("original-message-id")
            return tuple(dict.fromkeys((*found, *mime.message_ids(original))))
    return found


def _text(tree: Walk, limits: MailLimits) -> tuple[str, str, str]:
    """The text, what is wrong with it, and its HTML versions as text."""
    plain: list[str] = []
    pages: list[str] = []
    problem = ""
    for leaf in tree.leaves:
        if leaf.attachment or leaf.content_type not in ("text/plain", "text/html"):
            continue
        text, wrong = _decoded(leaf, limits)
        if leaf.content_type == "text/html":
            pages.append(html_to_text(text))
        else:
            plain.append(text)
            problem = problem or wrong
    if not plain:
        plain = pages
        problem = "its text is HTML only" if pages else "it has no plain text"
    whole = "\n".join(plain)
    if len(whole) > limits.text:
        tree.problem(f"its text is longer than {limits.text} characters")
    return whole[: limits.text], problem or tree.damage, "\n".join(pages)[: limits.text]


def _decoded(leaf: Entity, limits: MailLimits) -> tuple[str, str]:
    data, wrong_bytes = mime.decode_body(leaf)
    text, wrong_text = mime.decode_charset(data[: 4 * limits.text + 4], leaf.parameter("charset"))
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if leaf.content_type == "text/plain" and leaf.parameter("format").lower() == "flowed":
        text = _unflow(text, delete_space=leaf.parameter("delsp").lower() == "yes")
    return text, wrong_bytes or wrong_text


def _unflow(text: str, delete_space: bool) -> str:
    """Join the lines of format=flowed (RFC 3676); quote marks stay."""
    out: list[str] = []
    flowing = -1
    for line in text.split("\n"):
        bare = line.lstrip(">")
        depth = len(line) - len(bare)
        content = bare.removeprefix(" ")
        if content == "-- ":
            flowing = -1
        if flowing == depth:
            out.append(content)
        else:
            out.append(("\n" if out else "") + ">" * depth + (" " if depth else "") + content)
        flowing = -1
        if content.endswith(" ") and content != "-- ":
            flowing = depth
            if delete_space:
                out[-1] = out[-1][:-1]
    return "".join(out)


def _forwarded(mail: ParsedMail, text: str, attached: Sequence[Entity], limits: MailLimits) -> str | None:
    if quoting.is_reply(mail.subject) and not attached:
        return None
    if attached:
        data, _ = mime.decode_body(attached[0])
        inner = mime.read_entity(data, limits.headers)
        return _text(mime.walk(inner, limits), limits)[0]
    if quoting.is_forward(mail.subject) or quoting.has_forward_mark(text, original=not mail.in_reply_to):
        return quoting.enclosed_text(text)
    return None
