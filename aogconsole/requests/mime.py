"""The mechanics of mail: headers, parts, encodings, addresses. Pure, iterative and linear, whatever the bytes.

Python's `email` is not used for parsing: nested parts and comments raise RecursionError in it, and many encoded
words block it for seconds (reliability trap 11). Here every loop is bounded by the length of its input, and
what exceeds a limit becomes a sentence in `problems`, never an exception.
"""

from __future__ import annotations

import binascii
import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from aogconsole.requests.addresses import is_address

_HEADER_LINE = re.compile(rb"([!-9;-~]{1,200})[ \t]*:(.*)", re.DOTALL)
_PARAMETER = re.compile(r';\s*([a-z0-9*._-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;\s]*)', re.IGNORECASE)
_WORD = re.compile(r"=\?([^?\s]{1,75})\?([bq])\?([^?]*)\?=", re.IGNORECASE)
_MESSAGE_ID = re.compile(r"<([!-;=?-~]{1,250})>")
_LINE_BREAKS = re.compile("[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+[ \t]*")
_SURROGATES = re.compile("[\ud800-\udfff]")
_NO_CHARSETS = {"unicode_escape", "raw_unicode_escape", "punycode", "idna", "undefined"}
"""Encodings of Python that are no charset of a mail; two of them take quadratic time."""


@dataclass(frozen=True)
class Limits:
    """What one mail may cost. Beyond it the mail is still accounted for, and a person reads it."""

    size: int = 10_000_000
    """Bytes read of a mail."""
    headers: int = 262_144
    """Bytes read of one block of headers."""
    parts: int = 200
    depth: int = 20
    text: int = 200_000
    """Characters of text kept."""


@dataclass(frozen=True)
class Entity:
    """A mail or a part of one: its headers (names in lower case, values unfolded) and its undecoded body."""

    headers: tuple[tuple[str, bytes], ...]
    body: bytes
    cut: bool = False
    """There were more headers than the limit lets in."""

    def all(self, name: str) -> list[str]:
        """The values of every header of this name, from the top."""
        return [header_text(value) for key, value in self.headers if key == name]

    def get(self, name: str) -> str:
        """The value of the topmost header of this name, or an empty text."""
        return next(iter(self.all(name)), "")

    @property
    def content_type(self) -> str:
        """`type/subtype` in lower case; text/plain when there is none that can be read."""
        words = self.get("content-type")[:4000].split(";")[0].split()
        return words[0].lower() if words and words[0].count("/") == 1 else "text/plain"

    def parameter(self, name: str) -> str:
        """A parameter of Content-Type, or an empty text."""
        for key, value in _PARAMETER.findall(self.get("content-type")[:4000]):
            if key.lower() == name:
                return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else str(value)
        return ""

    @property
    def attachment(self) -> bool:
        """It is to be saved, not to be read."""
        return self.get("content-disposition").lower().startswith("attachment")


def header_text(value: bytes) -> str:
    """A header's bytes as text: UTF-8 where it is, Latin-1 otherwise."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def read_entity(raw: bytes, limit: int) -> Entity:
    """Split bytes with LF line ends into headers and body; a line that is no header begins the body."""
    headers: list[tuple[str, list[bytes]]] = []
    position = raw.index(b"\n") + 1 if raw.startswith((b"From ", b">From ")) and b"\n" in raw[:1000] else 0
    while position < min(len(raw), limit):
        end = raw.find(b"\n", position)
        line = raw[position : end if end >= 0 else len(raw)]
        after = end + 1 if end >= 0 else len(raw)
        if not line.rstrip(b"\r"):
            return _entity(headers, raw[after:])
        if line[:1] in b" \t" and headers:
            headers[-1][1].append(line)
        elif found := _HEADER_LINE.fullmatch(line[:limit]):
            headers.append((found[1].decode("ascii").lower(), [found[2]]))
        else:
            return _entity(headers, raw[position:])
        position = after
    blank = raw.find(b"\n\n", max(position - 1, 0))
    return _entity(headers, raw[blank + 2 :] if blank >= 0 else b"", cut=len(raw) > limit)


def _entity(headers: list[tuple[str, list[bytes]]], body: bytes, cut: bool = False) -> Entity:
    return Entity(tuple((name, b"".join(lines).strip()) for name, lines in headers), body, cut)


@dataclass
class Walk:
    """The leaves of a mail's tree in reading order, and what was wrong with the tree."""

    leaves: list[Entity] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Limits that were exceeded."""
    damage: str = ""
    """What does not fit together, though all of it could be read."""

    def problem(self, sentence: str) -> None:
        """Note what is wrong, once."""
        if sentence not in self.problems:
            self.problems.append(sentence)


def walk(top: Entity, limits: Limits) -> Walk:
    """Open every multipart, never an enclosed message."""
    result = Walk()
    stack = [(top, 0)]
    seen = 0
    while stack:
        entity, depth = stack.pop()
        seen += 1
        if seen > limits.parts:
            result.problem(f"it has more than {limits.parts} parts")
            break
        if entity.cut:
            result.problem(f"its headers are longer than {limits.headers} bytes")
        if not entity.content_type.startswith("multipart/"):
            result.leaves.append(entity)
        elif depth >= limits.depth:
            result.problem(f"its parts are nested more than {limits.depth} deep")
        else:
            children = list(_children(entity, result, limits))
            stack.extend((child, depth + 1) for child in reversed(children))
    return result


def _children(entity: Entity, result: Walk, limits: Limits) -> Iterator[Entity]:
    boundary = entity.parameter("boundary").rstrip()
    if not boundary or len(boundary) > 200:
        result.damage = "nothing usable says where its parts begin"
        yield Entity((), entity.body)
        return
    delimiter = re.compile(rb"^--" + re.escape(boundary.encode("utf-8", "replace")) + rb"(--)?[ \t\r]*$", re.MULTILINE)
    start = -1
    for count, found in enumerate(delimiter.finditer(entity.body)):
        if start >= 0:
            yield read_entity(entity.body[start : max(found.start() - 1, start)], limits.headers)
        start = found.end() + 1
        if found[1]:
            return
        if count > limits.parts:
            result.problem(f"it has more than {limits.parts} parts")
            return
    result.damage = "it ends before its last part does"
    yield read_entity(entity.body[start:], limits.headers) if start >= 0 else Entity((), entity.body)


def decode_charset(data: bytes, charset: str) -> tuple[str, str]:
    """Bytes as text, and what was wrong ('' for nothing). Without a charset: UTF-8, of which ASCII is a part."""
    name = charset.strip().lower().partition("*")[0]
    if name in ("", "us-ascii", "ascii", "utf-8", "utf8", "unicode-1-1-utf-8"):
        name = "utf-8-sig"
    try:
        codec = codecs.lookup(name)
        if codec.name.replace("-", "_") in _NO_CHARSETS:
            raise LookupError
        return storable(data.decode(codec.name)), ""
    except (LookupError, ValueError) as error:
        text = storable(data.decode("utf-8", "replace"))
        if isinstance(error, UnicodeError):
            return text, f"its text is not valid {charset.strip()[:40] or 'UTF-8'}"
        return text, f"its character set '{charset.strip()[:40]}' is unknown"


def storable(text: str) -> str:
    """Without lone surrogates, which neither UTF-8 nor a database can hold."""
    return _SURROGATES.sub("\ufffd", text)


def decode_body(entity: Entity) -> tuple[bytes, str]:
    """Undo the transfer encoding: the bytes, and what was wrong ('' for nothing)."""
    encoding = entity.get("content-transfer-encoding").strip().lower()
    match encoding:
        case "" | "7bit" | "8bit" | "binary":
            return entity.body, ""
        case "quoted-printable":
            return binascii.a2b_qp(entity.body), ""
        case "base64":
            data = re.sub(rb"[^A-Za-z0-9+/]", b"", entity.body)
            whole = data[: len(data) - len(data) % 4]
            rest = data[len(whole) :]
            tail = binascii.a2b_base64(rest + b"=" * (4 - len(rest))) if len(rest) > 1 else b""
            padded = re.sub(rb"\s", b"", entity.body)
            sound = len(padded) % 4 == 0 and padded.rstrip(b"=") == data
            return binascii.a2b_base64(whole) + tail, "" if sound else "its base64 text is damaged"
        case _:
            return entity.body, f"its transfer encoding '{encoding[:40]}' is unknown"


def decode_words(text: str) -> str:
    """A header's text with its encoded words (RFC 2047) decoded, on one line; words that cannot be stay as they are."""
    out: list[str] = []
    pending: tuple[str, bytes] | None = None
    last = 0

    def flush() -> None:
        nonlocal pending
        if pending:
            decoded, problem = decode_charset(pending[1], pending[0])
            out.append(f"=?{pending[0]}?=" if problem.startswith("its character") else decoded)
            pending = None

    for found in _WORD.finditer(text):
        gap = text[last : found.start()]
        charset, kind, data = found[1].lower(), found[2].lower(), found[3].encode("ascii", "replace")
        if gap.strip() or last == 0:
            flush()
            out.append(gap)
        if pending and pending[0] != charset:
            flush()
        data = binascii.a2b_qp(data, header=True) if kind == "q" else decode_body(_base64(data))[0]
        pending = (charset, (pending[1] if pending else b"") + data)
        last = found.end()
    flush()
    return _LINE_BREAKS.sub(" ", storable("".join(out) + text[last:])).strip()


def _base64(data: bytes) -> Entity:
    return Entity((("content-transfer-encoding", b"base64"),), data)


def message_ids(text: str) -> tuple[str, ...]:
    """The message ids in a header, with their angle brackets, in order and each once."""
    return tuple(dict.fromkeys(found[0] for found in _MESSAGE_ID.finditer(text)))


@dataclass(frozen=True)
class Mailbox:
    """One entry of an address header; `address` is empty when it cannot be read with certainty."""

    name: str
    address: str


def mailboxes(text: str) -> list[Mailbox]:
    """Every mailbox of an address header (RFC 5322), groups opened, comments dropped, none guessed."""
    found: list[Mailbox] = []
    reader = _MailboxReader()
    for char in text + ",":
        if reader.take(char):
            if reader.phrase.strip() or reader.angles:
                found.append(reader.mailbox())
            reader = _MailboxReader()
    if reader.open:
        found.append(Mailbox("", ""))
    return found


class _MailboxReader:
    """Reads one mailbox, character by character; `take` tells when it is complete."""

    def __init__(self) -> None:
        self._phrase: list[str] = []
        self._angle: list[str] = []
        self.angles = 0
        self._quoted = self._in_angle = self._escaped = self._had_quotes = False
        self._certain = True
        self._depth = 0

    @property
    def phrase(self) -> str:
        return "".join(self._phrase)

    @property
    def open(self) -> bool:
        """Something was begun and not ended."""
        return bool(self._quoted or self._in_angle or self._depth or self.phrase.strip())

    def take(self, char: str) -> bool:
        if self._escaped:
            self._escaped = False
            self._keep(char)
        elif char == "\\" and (self._quoted or self._depth):
            self._escaped = True
        elif self._quoted:
            self._quoted = char != '"'
            if self._quoted:
                self._keep(char)
        elif char == "(" or self._depth:
            self._depth += {"(": 1, ")": -1}.get(char, 0)
        else:
            return self._structure(char)
        return False

    def _structure(self, char: str) -> bool:
        if self._in_angle:
            self._in_angle = char != ">"
            if self._in_angle:
                self._angle.append(char)
            return False
        match char:
            case '"':
                self._quoted = self._had_quotes = True
            case "<":
                self._in_angle = True
                self.angles += 1
            case ":":
                self._certain = self._certain and "@" not in self._phrase
                self._phrase.clear()
            case "," | ";":
                return True
            case _:
                self._keep(char)
        return False

    def _keep(self, char: str) -> None:
        if not self._depth:
            (self._angle if self._in_angle else self._phrase).append(char)

    def mailbox(self) -> Mailbox:
        phrase = self.phrase.strip()
        address = "".join(self._angle).strip() if self.angles else phrase
        certain = self._certain and (self.angles == 1 or (self.angles == 0 and not self._had_quotes))
        name = decode_words(phrase) if self.angles else ""
        return Mailbox(name[:200], address if certain and is_address(address) else "")
