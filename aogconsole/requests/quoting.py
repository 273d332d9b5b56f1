"""Which part of a mail's text its sender wrote, and which part is quoted or forwarded. Pure.

A request is made by what the sender wrote, never by what is quoted (design section 3).
"""

from __future__ import annotations

import re

_ATTRIBUTION = re.compile(
    r"\s*(?:On|Am|Le|El|Il|Em|Op|Den|Dnia)\b.{4,400}"
    r"(?:\bwrote|\bschrieb\b.{0,200}|\ba écrit|\bescribió|\bha scritto|\bescreveu|\bschreef\b.{0,200}|\bskrev.{0,200})"
    r"\s*:\s*",
    re.IGNORECASE | re.DOTALL,
)
_FORWARD = re.compile(
    r"\s*(?:[-_=*]{2,}\s*(?:forwarded|weitergeleitete|message transf|mensaje reenviado|messaggio inoltrato).*"
    r"|begin forwarded message\s*:?)\s*",
    re.IGNORECASE,
)
_ORIGINAL = re.compile(
    r"\s*[-_=*]{2,}\s*(?:original (?:message|appointment)|ursprüngliche nachricht|message d'origine|mensaje original"
    r"|messaggio originale|mensagem original).*",
    re.IGNORECASE,
)
_FROM = re.compile(r"\s*\**(?:From|Von|De|Da)\s*\**:\**\s*\S.*", re.IGNORECASE)
_SENT = re.compile(
    r"\s*\**(?:Sent|Date|To|Subject|Gesendet|Datum|An|Envoyé|Enviado|Inviato|Data|Fecha)\s*\**:.*", re.IGNORECASE
)
_HEADER = re.compile(r"\s*\**[A-Za-zÀ-ÿ-]{2,20}\s*\**:.*")
_PREFIX = re.compile(
    r"\s*(?:\[[^\]]{0,40}\]\s*)*(re|aw|sv|antw|rif|ref|r|fwd?|wg|tr|rv|i)\s*(?:\[\d{1,3}\])?\s*:", re.I
)
_REPLIES = {"re", "aw", "sv", "antw", "rif", "ref", "r"}


def is_reply(subject: str) -> bool:
    """The subject begins with a mark of a reply (`Re:`, `AW:`, ...)."""
    found = _PREFIX.match(subject.lstrip(" \"'“„"))
    return found is not None and found[1].lower() in _REPLIES


def is_forward(subject: str) -> bool:
    """The subject begins with a mark of a forward (`Fwd:`, `WG:`, ...)."""
    found = _PREFIX.match(subject.lstrip(" \"'“„"))
    return found is not None and found[1].lower() not in _REPLIES


def own_text(text: str) -> str:
    """What the sender wrote: without quoted lines, quoted or forwarded mails, and the signature."""
    lines = text.split("\n")
    kept: list[str] = []
    index = 0
    while index < len(lines):
        line = lines[index]
        if line in ("-- ", "--") or _begins_enclosed(lines, index):
            break
        if length := _attribution(lines, index):
            index += length
            if not _quoted_next(lines, index):
                break
            continue
        if not line.lstrip().startswith(">"):
            kept.append(line)
        index += 1
    return "\n".join(kept)


def enclosed_text(text: str) -> str:
    """The mail that a forward holds in its text, or what it quotes; empty when there is neither."""
    lines = text.split("\n")
    for index in range(len(lines)):
        if _begins_enclosed(lines, index):
            body = [line.lstrip("> ") if line.startswith(">") else line for line in lines[index + 1 :]]
            while body and (not body[0].strip() or _HEADER.fullmatch(body[0][:500])):
                body.pop(0)
            return "\n".join(body)
    return "\n".join(line.lstrip("> ") for line in lines if line.startswith(">"))


def has_forward_mark(text: str, original: bool) -> bool:
    """A line says that a forwarded mail follows; with `original`, Outlook's mark of any enclosed mail counts too."""
    return any(
        _FORWARD.fullmatch(line) or (original and _ORIGINAL.fullmatch(line))
        for line in map(_short, text.split("\n"))
        if line
    )


def _short(line: str) -> str:
    return line if len(line) <= 500 else ""


def _begins_enclosed(lines: list[str], index: int) -> bool:
    line = _short(lines[index])
    if _FORWARD.fullmatch(line) or _ORIGINAL.fullmatch(line):
        return True
    return _FROM.fullmatch(line) is not None and any(
        _SENT.fullmatch(_short(after)) for after in lines[index + 1 : index + 4]
    )


def _attribution(lines: list[str], index: int) -> int:
    """How many lines of an attribution (`On ... wrote:`) begin here: 0 to 3."""
    for length in (1, 2, 3):
        joined = "\n".join(lines[index : index + length])
        if len(joined) > 600:
            break
        if joined.rstrip().endswith(":") and _ATTRIBUTION.fullmatch(joined):
            return length
    return 0


def _quoted_next(lines: list[str], index: int) -> bool:
    for line in lines[index : index + 5]:
        if line.strip():
            return line.lstrip().startswith(">")
    return False
