"""The letters: which text goes to whom, as drafts that an operator reads, changes and approves.

Contract: design section 7. The texts are those of seed 000, in `letters/*.txt`; a site may replace them.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, Literal, Self, get_args

from aogconsole.errors import UsageError
from aogconsole.requests.addresses import checked_address, distinct, matches
from aogconsole.text import clean, clean_lines, decode

RefusalKind = Literal["not_entitled", "invalid_user", "invalid_mous", "not_delivered"]
LetterKind = Literal[RefusalKind, "link", "expert"]
KINDS: tuple[LetterKind, ...] = get_args(LetterKind)

BODY_LIMIT = 1 << 20
"""Characters of terminal output that go into the body of a letter to the expert; more are attached."""

_PLACES: Mapping[LetterKind, frozenset[str]] = {
    "link": frozenset({"url", "days"}),
    "expert": frozenset({"command", "output"}),
}
_PLACE = re.compile(r"\{([^{}]*)\}")
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_RE = re.compile(r"^(?:re\s*:\s*)+", re.IGNORECASE)
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,240}>", re.ASCII)
_URL = re.compile(r"https?://[!-;=?-~]{1,900}", re.ASCII)
_SUBJECT_LIMIT = 200
_REFERENCES_LIMIT = 20


@dataclass(frozen=True)
class LetterRules:
    """What the site decides about letters (configuration section `mail`)."""

    address: str
    """Our own address: From of every letter."""
    expert: str
    senders: tuple[str, ...]
    """Patterns of the addresses that may request, and may be copied."""
    cc_refusals: bool = False
    templates: Mapping[LetterKind, str] | None = None
    """From `texts`; None for the seed's."""


@dataclass(frozen=True)
class Original:
    """The request mail, as far as an answer needs it. Everything in it is untrusted."""

    message_id: str
    references: tuple[str, ...]
    subject: str
    from_address: str
    to: tuple[str, ...]
    cc: tuple[str, ...]
    text: str
    received_at: datetime


@dataclass(frozen=True)
class Draft:
    """A letter before it is sent. Subject and body hold no control characters; lines end with a line feed."""

    kind: LetterKind
    to: tuple[str, ...]
    cc: tuple[str, ...]
    subject: str
    body: str
    in_reply_to: str | None
    references: tuple[str, ...]
    attachment: bytes | None = None
    """Sent as `terminal.log`."""

    def to_json(self) -> dict[str, Any]:
        """As JSON has it; the attachment in base64."""
        attachment = None if self.attachment is None else b64encode(self.attachment).decode("ascii")
        return {
            "kind": self.kind,
            "to": list(self.to),
            "cc": list(self.cc),
            "subject": self.subject,
            "body": self.body,
            "in_reply_to": self.in_reply_to,
            "references": list(self.references),
            "attachment": attachment,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The reverse of `to_json`."""
        lists = {name: tuple(stored[name]) for name in ("to", "cc", "references")}
        attachment = None if stored["attachment"] is None else b64decode(stored["attachment"])
        return cls(**{**stored, **lists, "attachment": attachment})


# ── texts ────────────────────────────────────────────────────────────────────────────────────────────────────


def texts(site: Mapping[str, str] | None = None) -> Mapping[LetterKind, str]:
    """The text of every kind of letter: ours, or the site's where it has one.

    `site` maps file names (`link.txt`) to contents. Raises UsageError for a file that names no letter, and for a
    text that lacks a place or has one that we cannot fill.
    """
    ours: dict[LetterKind, str] = {kind: _ours(kind) for kind in KINDS}
    names = {f"{kind}.txt": kind for kind in KINDS}
    for name, text in (site or {}).items():
        if name not in names:
            raise UsageError(f"'{clean(name)}' is the text of no letter", "the files are " + ", ".join(names))
        ours[names[name]] = _checked(name, text, _PLACES.get(names[name], frozenset()))
    return ours


def helpdesk_reply() -> str:
    """What the helpdesk writes to a user who is not entitled (seed 000)."""
    return _ours("helpdesk_reply")


@cache
def _ours(name: str) -> str:
    return files("aogconsole.requests").joinpath("letters", f"{name}.txt").read_text("utf-8").rstrip("\n")


def _checked(name: str, text: str, places: frozenset[str]) -> str:
    found = set(_PLACE.findall(text))
    for place in sorted(found ^ places):
        what = "has a place that nothing fills" if place in found else "lacks a place"
        known = " and ".join(f"{{{known}}}" for known in sorted(places)) or "no text in braces"
        raise UsageError(f"the letter text {name} {what}: {{{clean(place)}}}", f"it must have {known}")
    return clean_lines(text).rstrip("\n")


def _text(kind: LetterKind, rules: LetterRules, **values: str) -> str:
    template = _ours(kind) if rules.templates is None else rules.templates[kind]
    return _PLACE.sub(lambda place: values[place[1]], template)


# ── drafts ───────────────────────────────────────────────────────────────────────────────────────────────────


def refusal(kind: RefusalKind, original: Original, rules: LetterRules) -> Draft:
    """The refusal above the quoted request, to its sender. Raises InvalidId when the sender has no usable address."""
    to = checked_address(original.from_address)
    cc = _copied(original, rules, to) if rules.cc_refusals else ()
    return _reply(kind, original, to, cc, _text(kind, rules) + "\n\n" + _quoted(original.text))


def link(original: Original, user_address: str, url: str, days_left: int, rules: LetterRules) -> Draft:
    """The link to the staged data, to the user's address *from the archive*.

    `days_left` counts from the sending. Raises InvalidId for an unusable address, UsageError for less than one day
    or what is not a URL.
    """
    if days_left < 1:
        raise UsageError("the staged data is, or is about to be, deleted: there is nothing to link to", "stage again")
    if not _URL.fullmatch(url):
        raise UsageError(f"'{clean(url[:120])}' is not a web address", "a link letter needs the staged data's URL")
    to = checked_address(user_address)
    days = "1 day" if days_left == 1 else f"{days_left} days"
    return _reply("link", original, to, _copied(original, rules, to), _text("link", rules, url=url, days=days))


def expert(original: Original, command_line: str, output: bytes, rules: LetterRules) -> Draft:
    """The command line and the whole terminal output of a failed run, to the expert.

    Output beyond `BODY_LIMIT` is shortened in its middle and attached whole. Control bytes become visible.
    """
    shown, _ = _shown(output)
    body = _text("expert", rules, command=clean(command_line), output=shown)
    return replace(_reply("expert", original, checked_address(rules.expert), (), body), attachment=attachment(output))


def attachment(output: bytes) -> bytes | None:
    """What is attached to the letter to the expert: the output, when not all of it is in the body."""
    _, whole = _shown(output)
    return None if whole else output


def _reply(kind: LetterKind, original: Original, to: str, cc: tuple[str, ...], body: str) -> Draft:
    thread = [known for known in (*original.references, original.message_id) if is_message_id(known)]
    thread = list(dict.fromkeys(thread))
    if len(thread) > _REFERENCES_LIMIT:
        thread = thread[:1] + thread[1 - _REFERENCES_LIMIT :]
    in_reply_to = original.message_id if is_message_id(original.message_id) else None
    return Draft(kind, (to,), cc, reply_subject(original.subject), body.rstrip("\n"), in_reply_to, tuple(thread))


def is_message_id(text: str) -> bool:
    """Whether the text is a Message-ID that may stand in a header of ours."""
    # an encoded word inside an id is a trap for the reader at the other end, and no mailer makes one
    return _MESSAGE_ID.fullmatch(text) is not None and "=?" not in text


def _copied(original: Original, rules: LetterRules, to: str) -> tuple[str, ...]:
    listed = [address for address in (*original.to, *original.cc) if matches(address, rules.senders)]
    candidates = [checked_address(original.from_address), checked_address(rules.expert), *listed]
    return distinct(candidates, without=(rules.address, to))


def reply_subject(subject: str) -> str:
    """The subject of an answer: one line, one `Re: `, at most 200 characters of what it answers."""
    line = clean(" ".join(_BREAKS.sub(" ", subject).split()))
    return ("Re: " + _RE.sub("", line, count=1)[:_SUBJECT_LIMIT]).rstrip()


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in clean_lines(text).strip("\n").split("\n"))


def _shown(output: bytes) -> tuple[str, bool]:
    """The output for a body, and whether it is all there."""
    head = clean_lines(decode(output[:BODY_LIMIT]))
    if len(output) <= BODY_LIMIT and len(head) <= BODY_LIMIT:
        return head, True
    half = BODY_LIMIT // 2
    tail = clean_lines(decode(output[-BODY_LIMIT:]))[-half:]
    head = head[:half].rpartition("\n")[0] or head[:half]
    tail = tail.partition("\n")[2] or tail
    middle = f"[... left out here: the whole output, {len(output)} bytes, is attached as terminal.log ...]"
    return f"{head}\n\n{middle}\n\n{tail}", False


# ── the operator's changes ───────────────────────────────────────────────────────────────────────────────────


def editable(draft: Draft) -> str:
    """The draft as a text to be edited: `To:`, `Cc:` and `Subject:` lines, an empty line, the body."""
    head = f"To: {', '.join(draft.to)}\nCc: {', '.join(draft.cc)}\nSubject: {draft.subject}"
    return f"{head}\n\n{draft.body}\n"


def edited(draft: Draft, text: str) -> Draft:
    """The draft with what the operator made of `editable`. Raises UsageError naming the line that is wrong."""
    head, _, body = clean_lines(text).partition("\n\n")
    addresses: dict[str, list[str]] = {"to": [], "cc": []}
    subject = ""
    seen = set()
    for number, line in enumerate(head.split("\n"), 1):
        name, _, value = line.partition(":")
        match name.lower():
            case "to" | "cc" as field if field not in seen:
                addresses[field] = _addresses(number, value)
            case "subject" as field if field not in seen:
                subject = value.strip()
            case _:
                raise UsageError(
                    f"line {number} of the letter is wrong: '{clean(line[:80])}'",
                    "the first lines are To:, Cc: and Subject:, each once, then comes an empty line",
                )
        seen.add(field)
    if not addresses["to"] or not subject:
        raise UsageError("the letter needs an address after To: and a text after Subject:", "edit it again")
    to = distinct(addresses["to"])
    cc = distinct(addresses["cc"], without=to)
    return replace(draft, to=to, cc=cc, subject=reply_subject(subject), body=body.rstrip("\n"))


def _addresses(number: int, value: str) -> list[str]:
    try:
        return [checked_address(part.strip()) for part in value.split(",") if part.strip()]
    except UsageError as error:
        raise UsageError(f"line {number} of the letter is wrong: {error}", error.hint) from None
