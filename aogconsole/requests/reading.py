"""What a mail says of a request: the four fields, where they stand, and what makes them doubtful. Pure.

The words are the seed's ("please create the calibrated MS for MOUS ... project ... for user ... helpdesk
ticket ..."), in any case and however the lines are wrapped. Nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from aogconsole.errors import InvalidId
from aogconsole.ids import AccountId, MousUid, ProjectCode, Ticket
from aogconsole.requests.mail import UID_LIKE, ParsedMail
from aogconsole.text import ascii_only, clean

_T = TypeVar("_T")
_SUBJECT = re.compile(r"request\s+for\s+calibrated\s+data", re.IGNORECASE)
_MOUS = re.compile(r"calibrated\s+MSs?\s+for\s+MOUS\s*:?\s+(\S+)", re.IGNORECASE)
_PROJECT = re.compile(r"\bproject(?:\s+code)?\s*:?\s+(\S+)", re.IGNORECASE)
_USER = re.compile(r"\bfor\s+user\s*:?\s+(\S+)([^\n]*)", re.IGNORECASE)
_TICKET = re.compile(r"\bhelpdesk\s+ticket\s*(?:number\b|no\.)?\s*:?\s*#?\s?(\S+)", re.IGNORECASE)
_CODE = re.compile(r"\b\d{4}\.[0-9A-Z]\.\d{5}\.[A-Z]{1,4}\b", re.IGNORECASE | re.ASCII)
_ANOTHER = re.compile(r"[ ,;/&+]*(?:and |or )?#?\d")
_AFTER_USER = re.compile(r"(?:and )?(?:helpdesk|project)\b", re.IGNORECASE)
_CALFIELD = re.compile(r"^ ?calfields?\b", re.IGNORECASE | re.MULTILINE)
_WRAPPING = "<>\"'*“”‘’«»`()[]"
_ENDING = ".,;:!?"


@dataclass(frozen=True)
class Fields:
    """The four fields of a request: all of a certain one, and of an unclear one what could be read, as a proposal."""

    mous: MousUid | None = None
    project: ProjectCode | None = None
    account: AccountId | None = None
    ticket: Ticket | None = None


class Reading:
    """What a mail says of a request: in its subject, in its own text, in what it encloses."""

    def __init__(self, mail: ParsedMail) -> None:
        self.mail = mail
        own = _collapsed(mail.own_text)
        enclosed = _collapsed(mail.forwarded or "")
        self.in_subject = _SUBJECT.search(mail.subject) is not None
        self.in_own_text = _MOUS.search(own) is not None
        self.in_enclosed = _MOUS.search(enclosed) is not None or _SUBJECT.search(enclosed) is not None
        self.uids = _uids(own)
        self.subject_uids = _uids(mail.subject)
        text = own if self.in_own_text or not self.in_enclosed else enclosed
        self._calfield = _CALFIELD.search(own) is not None
        self._codes = {found[0].upper() for found in _CODE.finditer(text)}
        self.mous = _Field(MousUid.parse, "MOUS", [found[1] for found in _MOUS.finditer(text)])
        self.project = _Field(ProjectCode.parse, "project", _project_words(text))
        users = list(_USER.finditer(text))
        self.account = _Field(AccountId.parse, "user", [found[1] for found in users])
        self._more_than_user = next((_bare(found[0]) for found in users if _says_more(found)), "")
        tickets = list(_TICKET.finditer(text))
        self.ticket = _Field(Ticket.parse, "ticket", [found[1] for found in tickets])
        self._more_tickets = any(_ANOTHER.match(text[found.end(1) :][:40]) for found in tickets)

    @property
    def fields(self) -> Fields:
        """What could be read; the MOUS from the subject when the text has none."""
        mous = self.mous.value
        if not mous and not self.mous.words and len(self.subject_uids) == 1:
            mous = _parsed(MousUid.parse, self.subject_uids[0])
        return Fields(mous, self.project.value, self.account.value, self.ticket.value)

    def doubts(self) -> list[str]:
        """Why these fields are not certain; empty when they are."""
        mail = self.mail
        doubts = [clean(mail.text_problem)] if mail.text_problem else []
        doubts += [doubt for field in (self.mous, self.project, self.account, self.ticket) if (doubt := field.doubt)]
        if len(self._codes) > 1:
            doubts.append("the text names more than one project: " + _list(self._codes))
        if self._more_tickets:
            doubts.append("the text names more than one ticket")
        if self._more_than_user:
            doubts.append(f"beside the user's id there is more: '{clean(self._more_than_user[:80])}'")
        if self._calfield:
            doubts.append("it asks for calibrator fields, which is another procedure")
        return doubts + self._uid_doubts()

    def _uid_doubts(self) -> list[str]:
        doubts = []
        named = {_name(word) for word in self.uids}
        subject = {_name(word) for word in self.subject_uids}
        if len(named) > 1:
            doubts.append("the text names more than one UID: " + _list(named))
        if not subject:
            doubts.append("the subject names no MOUS")
        elif len(subject) > 1:
            doubts.append("the subject names more than one UID: " + _list(subject))
        elif self.mous.value and subject != {str(self.mous.value)}:
            doubts.append(f"the subject names {_list(subject)}, the text {self.mous.value}")
        return doubts + self._other_versions(named)

    def _other_versions(self, named: set[str]) -> list[str]:
        """What a person sees and we did not take: the HTML beside the text, a second request below the first."""
        doubts = []
        html = _collapsed(self.mail.html_text)
        others = {_name(word) for word in _uids(html)} - named
        if others and not self.mail.text_problem:
            doubts.append("the HTML version names another UID: " + _list(others))
        for name, field, pattern in (("user", self.account, _USER), ("ticket", self.ticket, _TICKET)):
            words = {_bare(found[1]) for found in pattern.finditer(html)} - set(field.words)
            if words and not self.mail.text_problem:
                doubts.append(f"the HTML version names another {name}: " + _list(words))
        unquoted = "\n".join(line for line in self.mail.text.splitlines() if not line.lstrip().startswith(">"))
        asked = {_name(_bare(found[1])) for found in _MOUS.finditer(_collapsed(unquoted))}
        if self.in_own_text and (more := asked - named):
            doubts.append("further down it asks for another MOUS: " + _list(more))
        return doubts


class _Field(Generic[_T]):
    """One field: its words as found, its value when they are one and the same, and the doubt otherwise."""

    def __init__(self, parse: Callable[[str], _T], name: str, words: Sequence[str]) -> None:
        self.words = tuple(dict.fromkeys(map(_bare, words)))
        values = {_parsed(parse, word) for word in self.words}
        self.value = next(iter(values)) if len(values) == 1 else None
        self.doubt = ""
        if not self.words:
            self.doubt = f"the text names no {name}"
        elif len(values) > 1:
            self.doubt = f"the text names more than one {name}: " + _list(self.words)
        elif self.value is None:
            self.doubt = _problem(parse, self.words[0])


def _collapsed(text: str) -> str:
    """Runs of white space as one line end or one space: the patterns then take linear time."""
    return re.sub(r"\s+", lambda run: "\n" if "\n" in run[0] else " ", text)


def _project_words(text: str) -> list[str]:
    """In prose "project" is followed by any word: one that begins with a digit is meant for a code."""
    words = [found[1] for found in _PROJECT.finditer(text)]
    return [word for word in words if _bare(word)[:1].isdigit()] or words


def _says_more(found: re.Match[str]) -> bool:
    rest = re.sub(r"\([^()]*\)", "", found[2]).strip(" ,;.")
    return bool(rest) and _AFTER_USER.match(rest) is None


def _bare(word: str) -> str:
    return word.strip(_WRAPPING).rstrip(_ENDING).strip(_WRAPPING)


def _parsed(parse: Callable[[str], _T], word: str) -> _T | None:
    try:
        return parse(word)
    except InvalidId:
        return None


def _problem(parse: Callable[[str], object], word: str) -> str:
    try:
        parse(word)
    except InvalidId as error:
        return str(error)
    return ""


def _uids(text: str) -> list[str]:
    return list(dict.fromkeys(found[0].rstrip(_ENDING + _WRAPPING) for found in UID_LIKE.finditer(text)))


def _name(word: str) -> str:
    """The one spelling of a UID, or the word itself when it is none."""
    uid = _parsed(MousUid.parse, word)
    return str(uid) if uid else word


def _list(words: Collection[str]) -> str:
    return ", ".join(ascii_only(word[:80]) for word in sorted(words)[:5])
