"""Notices about the delivery of a mail: standard ones (RFC 3464) and the plain ones of older servers. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from aogconsole.requests import mime
from aogconsole.requests.addresses import is_address
from aogconsole.requests.mime import Entity

_FAILURE = re.compile(
    r"undeliver|delivery.{0,20}(?:fail|status|notif|delay|problem)|return(?:ed|ing) (?:mail|to sender)|failure notice"
    r"|mail delivery|delayed|could not (?:be delivered|send)|unzustellbar|non remis",
    re.IGNORECASE,
)
_DELAY = re.compile(r"delay|warning|still (?:being )?retr", re.IGNORECASE)
_FAILED_LINE = re.compile(r"^[ \t]{0,20}<?([^\s<>:]{1,64}@[A-Za-z0-9.-]{1,253}[A-Za-z0-9])>?:?[ \t]*$", re.MULTILINE)
_DIAGNOSTIC = re.compile(r"^.{0,200}\b[45]\d\d[ -].{0,300}$", re.MULTILINE)
_RETURNED_ID = re.compile(r"^[>\s]{0,20}Message-ID:\s{0,20}(<[!-;=?-~]{1,250}>)", re.IGNORECASE | re.MULTILINE)
_STATUS = ("message/delivery-status", "message/global-delivery-status")
_DAEMONS = {"mailer-daemon", "mailer_daemon", "postmaster", "mail-daemon"}


@dataclass(frozen=True)
class Bounce:
    """A server's notice about a mail sent earlier."""

    action: str
    """`failed`, `delayed`, `delivered`, `relayed` or `expanded`; the worst one of several recipients."""
    recipients: tuple[str, ...]
    """Those the notice is about."""
    diagnostic: str
    """The other server's words, one line."""
    message_id: str
    """Of the mail that came back; empty when the notice does not hold it."""


def find(top: Entity, leaves: Sequence[Entity], text: str, sender: str, subject: str) -> Bounce | None:
    """The notice in a mail, if it is one."""
    returned = _returned_id(leaves, text)
    status = [
        leaf for leaf in leaves if leaf.content_type in ("message/delivery-status", "message/global-delivery-status")
    ]
    if status and top.content_type == "multipart/report":
        return _standard(status[0], returned)
    failed = tuple(box.address for box in mime.mailboxes(top.get("x-failed-recipients")[:4000]) if box.address)
    nobody = sender.partition("@")[0].lower() in _DAEMONS or top.get("return-path").strip() == "<>"
    if failed or (nobody and _FAILURE.search(subject)):
        recipients = failed or tuple(dict.fromkeys(_FAILED_LINE.findall(text[:20_000])))
        diagnostic = _DIAGNOSTIC.search(text[:20_000])
        action = "delayed" if _DELAY.search(subject) else "failed"
        return Bounce(action, recipients[:100], diagnostic[0].strip() if diagnostic else "", returned)
    return None


def _standard(leaf: Entity, returned: str) -> Bounce:
    data, _ = mime.decode_body(leaf)
    blocks = [mime.read_entity(block.lstrip(b"\n"), 10_000) for block in data[:100_000].split(b"\n\n")]
    entries = [block for block in blocks if block.get("action")]
    actions = [block.get("action").strip().lower() for block in entries]
    worst = next((action for action in ("failed", "delayed") if action in actions), actions[0] if actions else "failed")
    concerned = [block for block in entries if block.get("action").lower().startswith(worst)]
    recipients = [_recipient(block) for block in concerned]
    diagnostics = [block.get("diagnostic-code") or block.get("status") for block in concerned]
    diagnostic = mime.decode_words(next(filter(None, diagnostics), "").partition(";")[2] or next(iter(diagnostics), ""))
    return Bounce(worst[:20], tuple(dict.fromkeys(filter(None, recipients)))[:100], diagnostic[:500], returned)


def _recipient(block: Entity) -> str:
    value = block.get("original-recipient") or block.get("final-recipient")
    address = value.partition(";")[2].strip().strip("<>")
    return address if is_address(address) else ""


def _returned_id(leaves: Sequence[Entity], text: str) -> str:
    for leaf in leaves:
        if leaf.content_type in ("message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers"):
            data, _ = mime.decode_body(leaf)
            found = mime.message_ids(mime.read_entity(data.lstrip(b"\n") + b"\n\n", 65536).get("message-id"))
            if found:
                return found[0]
    plain = _RETURNED_ID.search(text[:200_000])
    return plain[1] if plain else ""
