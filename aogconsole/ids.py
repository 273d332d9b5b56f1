"""The identifiers that travel through everything: member OUS, project, ticket, account.

Each is checked once, at the border; code inside may rely on the type. All are ASCII, match whole, and never
begin with `-`, so that they are safe as words of a command. Facts: domain section 3 (3,084 real UIDs).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from aogconsole.errors import InvalidId
from aogconsole.text import ascii_only

_UID = re.compile(
    r"uid(?:___(A00[1-9])_(X[0-9a-f]{1,12})_(X[0-9a-f]{1,12})|://(A00[1-9])/(X[0-9a-f]{1,12})/(X[0-9a-f]{1,12}))",
    re.ASCII,
)
_LEADING_ZERO = re.compile(r"X0[0-9a-f]")
_PROJECT = re.compile(r"[0-9]{4}\.[0-9A-Z]\.[0-9]{5}\.(?:[STVLP]|[A-Z]{2,4})", re.ASCII)
_TICKET = re.compile(r"#?([1-9][0-9]{0,11})", re.ASCII)
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,31}", re.ASCII)


def _shown(text: str) -> str:
    return "'" + ascii_only(text[:80]) + "'"


@dataclass(frozen=True, slots=True)
class MousUid:
    """A member OUS' UID. Syntax cannot tell it from other UIDs: only the archive knows that it is a MOUS."""

    mail: str
    """As in mails, commands and file names: `uid___A001_X133d_X1244`."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read either spelling; raises InvalidId."""
        found = _UID.fullmatch(text)
        if not found or _LEADING_ZERO.search(text):
            raise InvalidId(
                f"{_shown(text)} is not a UID",
                "a UID looks like uid___A001_X133d_X1244 or uid://A001/X133d/X1244, with lower-case digits",
            )
        return cls("uid___" + "_".join(part for part in found.groups() if part))

    @property
    def database(self) -> str:
        """As the archive has it: `uid://A001/X133d/X1244`."""
        _, parts = self.mail.split("___")
        return "uid://" + parts.replace("_", "/")

    def __str__(self) -> str:
        return self.mail


@dataclass(frozen=True, slots=True)
class ProjectCode:
    """A project code, `2012.1.00357.S`."""

    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidId."""
        if not _PROJECT.fullmatch(text):
            raise InvalidId(f"{_shown(text)} is not a project code", "a project code looks like 2012.1.00357.S")
        return cls(text)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Ticket:
    """A helpdesk ticket's number, without the `#` (which a shell takes for a comment: domain section 3)."""

    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `15270` or `#15270`; raises InvalidId."""
        found = _TICKET.fullmatch(text)
        if not found:
            raise InvalidId(f"{_shown(text)} is not a helpdesk ticket number", "a ticket is a number, such as 15270")
        return cls(found[1])

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class AccountId:
    """The account id of an ALMA user, up to 32 characters, case as given."""

    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidId."""
        if not _ACCOUNT.fullmatch(text):
            raise InvalidId(
                f"{_shown(text)} is not an ALMA account id", "an account id is a login name of up to 32 characters"
            )
        return cls(text)

    def __str__(self) -> str:
        return self.value
