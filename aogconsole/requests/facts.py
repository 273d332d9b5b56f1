"""The archive's facts on one MOUS and one account, read from the rows of one statement. Pure.

The statement is `backends/sql/oracle/entitlement.sql`, which says what its rows are. Meaning of the columns:
domain section 2; rules: design section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any, Final, Literal, TypeVar

from aogconsole.errors import ArchiveError

ProjectSource = Literal["archive", "execution_blocks", "asked"]
Ground = Literal["pi", "delegee", "public"]

DELIVERED: Final = "Delivered"

Row = Mapping[str, object]
T = TypeVar("T")


@dataclass(frozen=True)
class Person:
    """An ALMA user as the archive knows them. All but one of the two keys may be absent."""

    account_id: str | None
    request_handler_id: int | None
    firstname: str | None = None
    lastname: str | None = None
    email: str | None = None
    preferredarc: str | None = None
    active: bool = False

    def to_json(self) -> dict[str, Any]:
        """Keys: account_id, request_handler_id, firstname, lastname, email, preferredarc, active."""
        return dict(vars(self))


@dataclass(frozen=True)
class Facts:
    """What the archive says of one MOUS and one account, and the day of the request.

    The statement also brings the PIs and delegations of the project that the mail names; the properties
    look at those of the project that counts (`project`) only.
    """

    day: date
    asked_account: str
    asked_project: str | None
    mous_exists: bool
    archive_projects: tuple[str, ...]
    """Codes that ASA_OUS and ASA_SCIENCE link to the MOUS."""
    block_projects: tuple[str, ...]
    """Codes of the execution blocks of its scheduling blocks: all there is of undelivered ones."""
    accounts: tuple[Person, ...]
    """Accounts that equal the asked one but for case."""
    pis: tuple[tuple[str, Person], ...]
    """Project code, and its PI (asa_project.pi_userid)."""
    data_delegees: tuple[tuple[str, Person], ...]
    """Project code, and an account that its PI gave a delegation of type DATA."""
    delivery_pis: tuple[Person, ...]
    """PIs named by the deliveries of the data; only the request handler id is sure to be there."""
    release_dates: tuple[date | None, ...]
    """Of every delivery of the data, each once; None is proprietary."""
    states: tuple[str, ...]

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[str, Row]], account: str, day: date) -> Facts:
        """Read the statement's rows: what each speaks of, and its columns by name in small letters.

        `account` is the asked account id, `day` the day of the request. Raises ArchiveError when the rows are not
        an answer to a question.
        """
        of: dict[str, list[Row]] = {}
        for fact, row in rows:
            of.setdefault(fact, []).append(row)
        asked = {_text(row, "value") for row in of.get("asked", [])}
        if len(asked) != 1:
            raise _unreadable("its rows 'asked' do not repeat the question")
        projects = [row for fact in ("asked", "asa", "block") for row in of.get(fact, [])]
        deliveries = of.get("delivery", [])
        return cls(
            day=day,
            asked_account=account,
            asked_project=asked.pop(),
            mous_exists="asa" in of or "block" in of,
            archive_projects=_values(of.get("asa", [])),
            block_projects=_values(of.get("block", [])),
            accounts=_unique(map(_person, of.get("account", []))),
            pis=_unique((_needed(row, "value"), _person(row)) for row in projects if _text(row, "account_id")),
            data_delegees=_unique((_needed(row, "value"), _person(row)) for row in of.get("delegee", [])),
            delivery_pis=_unique(map(_person, (row for row in deliveries if _id(row) is not None))),
            release_dates=_unique(map(_release_date, deliveries)),
            states=_values(of.get("state", [])),
        )

    @property
    def projects(self) -> tuple[str, ...]:
        """The projects that the archive links to the MOUS; of undelivered ones, by their execution blocks."""
        return self.archive_projects or self.block_projects

    @property
    def project_source(self) -> ProjectSource | None:
        """Who says which project it is; None when nobody does."""
        if self.archive_projects:
            return "archive"
        if self.block_projects:
            return "execution_blocks"
        return "asked" if self.asked_project else None

    @property
    def project(self) -> str | None:
        """The project whose PI and delegees count; None when there is none, or more than one."""
        match self.projects:
            case ():
                return self.asked_project
            case (code,):
                return code
            case _:
                return None

    @cached_property
    def account(self) -> Person | None:
        """The asked account, spelled exactly so."""
        return next((person for person in self.accounts if person.account_id == self.asked_account), None)

    @property
    def account_hint(self) -> str | None:
        """How the account is really spelled, when it is equal but for case."""
        others = [person.account_id for person in self.accounts if person.account_id]
        return " or ".join(others) if others and not self.account else None

    @cached_property
    def pi(self) -> Person | None:
        """The project's PI (asa_project)."""
        return next((person for code, person in self.pis if code == self.project), None)

    @cached_property
    def delegees(self) -> tuple[Person, ...]:
        """The project's data delegees."""
        return tuple(person for code, person in self.data_delegees if code == self.project)

    @property
    def pi_agrees(self) -> bool:
        """Nothing contradicts asa_project on who the PI is."""
        pis = {person.account_id for code, person in self.pis if code == self.project}
        ours = self.pi.request_handler_id if self.pi else None
        return len(pis) <= 1 and all(person.request_handler_id == ours for person in self.delivery_pis)

    @property
    def is_pi(self) -> bool:
        """The account is the project's PI."""
        return self.account is not None and self.pi is not None and self.pi.account_id == self.account.account_id

    @property
    def is_delegee(self) -> bool:
        """The account is a data delegee of the project."""
        handler = self.account.request_handler_id if self.account else None
        return handler is not None and any(person.request_handler_id == handler for person in self.delegees)

    @property
    def public_from(self) -> date | None:
        """First day on which all deliveries are released; None while there are none, or one has no date."""
        dates = [released for released in self.release_dates if released]
        return max(dates) if dates and len(dates) == len(self.release_dates) else None

    @property
    def public(self) -> bool:
        """The data are public on the day of the request."""
        return self.public_from is not None and self.public_from <= self.day

    @property
    def ground(self) -> Ground | None:
        """Why the account may have the data; None if it may not."""
        if self.is_pi:
            return "pi"
        if self.is_delegee:
            return "delegee"
        return "public" if self.public else None

    @property
    def state(self) -> str | None:
        """The life-cycle state of the MOUS. Of two that disagree, one that is not Delivered."""
        return min(self.states, key=lambda state: (state == DELIVERED, state), default=None)

    def to_json(self) -> dict[str, Any]:
        """The evidence as shown and kept. Days are ISO dates, absent is null. Keys:

        `day`; `mous_exists`; `projects` (codes), `project_source` (archive, execution_blocks, asked or null);
        `account` (a person or null), `account_hint`; `pi` (a person or null), `delivery_pi` (persons),
        `delegees` (persons); `is_pi`, `is_delegee`; `release_dates`, `public`, `public_from`; `state`.
        """
        return {
            "day": self.day.isoformat(),
            "mous_exists": self.mous_exists,
            "projects": list(self.projects),
            "project_source": self.project_source,
            "account": self.account.to_json() if self.account else None,
            "account_hint": self.account_hint,
            "pi": self.pi.to_json() if self.pi else None,
            "delivery_pi": [person.to_json() for person in self.delivery_pis],
            "delegees": [person.to_json() for person in self.delegees],
            "is_pi": self.is_pi,
            "is_delegee": self.is_delegee,
            "release_dates": [released.isoformat() if released else None for released in self.release_dates],
            "public": self.public,
            "public_from": self.public_from.isoformat() if self.public_from else None,
            "state": self.state,
        }


def _unreadable(detail: str) -> ArchiveError:
    return ArchiveError(
        f"The archive's answer cannot be read: {detail}", "compare the site's entitlement.sql with the one supplied"
    )


def _unique(items: Iterable[T]) -> tuple[T, ...]:
    return tuple(sorted(set(items), key=str))


def _text(row: Row, column: str) -> str | None:
    value = row.get(column)
    if value is None:
        return None
    if not isinstance(value, str):
        raise _unreadable(f"{column} is not text")
    return value.strip() or None


def _needed(row: Row, column: str) -> str:
    value = _text(row, column)
    if value is None:
        raise _unreadable(f"a row lacks its {column}")
    return value


def _id(row: Row) -> int | None:
    value = row.get("request_handler_id")
    if value is None or isinstance(value, int):
        return value
    raise _unreadable("request_handler_id is not a whole number")


def _values(rows: Iterable[Row]) -> tuple[str, ...]:
    return _unique(value for row in rows if (value := _text(row, "value")))


def _person(row: Row) -> Person:
    return Person(
        account_id=_text(row, "account_id"),
        request_handler_id=_id(row),
        firstname=_text(row, "firstname"),
        lastname=_text(row, "lastname"),
        email=_text(row, "email"),
        preferredarc=_text(row, "preferredarc"),
        active=_text(row, "active") == "T",
    )


def _release_date(row: Row) -> date | None:
    match row.get("release_date"):
        case None:
            return None
        case datetime() as time:
            return time.date()
        case value:
            try:
                return datetime.fromisoformat(str(value)).date()
            except ValueError:
                raise _unreadable("release_date is not a date") from None
