"""The decision: precedence, grounds and doubts, for any facts that an archive may hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aogconsole.errors import ArchiveError
from aogconsole.requests.entitlement import Verdict, decide, explain
from aogconsole.requests.facts import Facts, Person

DAY = date(2026, 6, 15)
PROJECT, OTHER = "2012.1.00357.S", "2013.1.00001.S"
PI = Person("pi1", 1, "Ann", "Pí", "ann@example.org", "EU", True)
USER = Person("user", 2, "Bob", "User", "bob@example.org", "NA", True)

BASE = Facts(
    day=DAY,
    asked_account="user",
    asked_project=PROJECT,
    mous_exists=True,
    archive_projects=(PROJECT,),
    block_projects=(PROJECT,),
    accounts=(USER,),
    pis=((PROJECT, PI),),
    data_delegees=(),
    delivery_pis=(PI,),
    release_dates=(date(3000, 1, 1),),
    states=("Delivered",),
)
AS_PI = {"pis": ((PROJECT, USER),), "delivery_pis": (USER,)}
AS_DELEGEE = {"data_delegees": ((PROJECT, USER),)}
PUBLIC = {"release_dates": (DAY,)}
UNLINKED: dict[str, object] = {"archive_projects": (), "block_projects": ()}
SHUT = {"states": ("Verified",)}
INACTIVE = {"accounts": (replace(USER, active=False),)}


def facts(**changes: object) -> Facts:
    """The base facts (an active stranger, proprietary data, Delivered) with changes."""
    return replace(BASE, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "verdict", "why"),
    [
        ({}, "not_entitled", "proprietary"),
        (AS_PI, "entitled", "pi"),
        (AS_DELEGEE, "entitled", "delegee"),
        (PUBLIC, "entitled", "public"),
        (AS_PI | AS_DELEGEE | PUBLIC, "entitled", "pi"),
        (AS_DELEGEE | PUBLIC, "entitled", "delegee"),
        (AS_PI | {"delivery_pis": ()}, "entitled", "pi"),
        # precedence: each row adds what comes before
        (AS_PI | SHUT, "not_delivered", "Verified"),
        (SHUT, "not_entitled", "proprietary"),
        ({"delivery_pis": (USER,)}, None, "pi_mismatch"),
        (SHUT | {"delivery_pis": (USER,)}, None, "pi_mismatch"),
        (AS_PI | INACTIVE, None, "account_inactive"),
        ({"delivery_pis": (USER,)} | INACTIVE, None, "account_inactive"),
        (INACTIVE | PUBLIC, None, "account_inactive"),
        ({"accounts": ()}, "invalid_user", "unknown_account"),
        ({"accounts": ()} | PUBLIC | SHUT, "invalid_user", "unknown_account"),
        ({"accounts": (), "asked_project": OTHER}, None, "project_mismatch"),
        ({"accounts": (), "asked_project": OTHER, "mous_exists": False}, "invalid_mous", "unknown_mous"),
        # doubts
        ({"archive_projects": (PROJECT, OTHER)}, None, "several_projects"),
        ({"archive_projects": (PROJECT, OTHER), "asked_project": None}, None, "several_projects"),
        ({"archive_projects": (PROJECT, OTHER), "asked_project": "2014.1.00001.S"}, None, "project_mismatch"),
        ({"archive_projects": (), "block_projects": (OTHER,)}, None, "project_mismatch"),
        ({"archive_projects": (), "asked_project": None} | AS_PI, "entitled", "pi"),
        (UNLINKED | AS_PI, None, "project_unconfirmed"),
        (UNLINKED | PUBLIC, None, "project_unconfirmed"),
        (UNLINKED | AS_PI | SHUT, "not_delivered", "Verified"),
        (UNLINKED, "not_entitled", "proprietary"),
        (UNLINKED | {"asked_project": None}, None, "project_unconfirmed"),
        (UNLINKED | {"asked_project": None, "delivery_pis": ()}, None, "project_unconfirmed"),
        ({"accounts": (replace(USER, account_id="User"),)}, None, "account_case"),
        ({"accounts": (replace(USER, account_id="USER"), USER)} | AS_PI, "entitled", "pi"),
        ({"accounts": (replace(USER, email=None),)} | AS_PI, None, "account_no_email"),
        ({"delivery_pis": (PI, USER)}, None, "pi_mismatch"),
        ({"pis": ()}, None, "pi_mismatch"),
        ({"pis": ((PROJECT, PI), (PROJECT, USER))}, None, "pi_mismatch"),
        ({"pis": ((OTHER, USER), (PROJECT, PI))}, "not_entitled", "proprietary"),
        ({"delivery_pis": (USER,)} | PUBLIC, "entitled", "public"),
        ({"states": ()} | AS_PI, None, "state_missing"),
        ({"states": ()}, "not_entitled", "proprietary"),
        ({"states": ("Delivered", "Verified")} | AS_PI, "not_delivered", "Verified"),
        ({"states": ("delivered",)} | AS_PI, "not_delivered", "delivered"),
        # what is no ground
        ({"data_delegees": ((OTHER, USER),)}, "not_entitled", "proprietary"),
        (
            {"data_delegees": ((PROJECT, replace(USER, request_handler_id=9)),)},
            "not_entitled",
            "proprietary",
        ),
        (
            {
                "accounts": (replace(USER, request_handler_id=None),),
                "data_delegees": ((PROJECT, replace(USER, request_handler_id=None)),),
            },
            "not_entitled",
            "proprietary",
        ),
        ({"release_dates": ()}, "not_entitled", "proprietary"),
        ({"release_dates": (None,)}, "not_entitled", "proprietary"),
        ({"release_dates": (DAY, None)}, "not_entitled", "proprietary"),
        ({"release_dates": (DAY, DAY + timedelta(1))}, "not_entitled", "proprietary"),
    ],
)
def test_verdict(changes: dict[str, object], verdict: str | None, why: str) -> None:
    """Each ground, each doubt, and which comes first."""
    given_facts = facts(**changes)
    found = decide(given_facts)
    assert (found.verdict, found.why) == (verdict, why)
    assert explain(found, given_facts).endswith(".")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (AS_PI, "user is the PI of 2012.1.00357.S."),
        (AS_DELEGEE, "user is a data delegee of the PI of 2012.1.00357.S."),
        (PUBLIC, "The data are public since 2026-06-15."),
        (AS_PI | SHUT, "The MOUS is in state Verified, not in Delivered."),
        ({}, "the data are proprietary, their release is halted."),
        ({"release_dates": (date(2027, 3, 12),)}, "the data are proprietary until 2027-03-12."),
        ({"release_dates": (None,)}, "the data are proprietary without a release date."),
        ({"release_dates": ()}, "the data are in no delivery with a release date."),
        ({"asked_project": OTHER}, "The request names 2013.1.00001.S, but the MOUS belongs to 2012.1.00357.S."),
        ({"accounts": (replace(USER, account_id="User"),)}, "There is no account user, but there is User."),
        (
            {"delivery_pis": (USER, Person(None, 9))},
            "the project says pi1, the delivery user, request handler 9.",
        ),
        ({"pis": ()}, "the project says nobody, the delivery pi1."),
        (AS_PI | {"states": ("Ver\x1b[2Jified",)}, "state Ver\\x1b[2Jified,"),
    ],
)
def test_words(changes: dict[str, object], words: str) -> None:
    """The operator reads one sentence, clean for a terminal."""
    given_facts = facts(**changes)
    assert words in explain(decide(given_facts), given_facts)


# ── any facts ────────────────────────────────────────────────────────────────────────────────────────────────

_days = st.one_of(st.none(), st.dates(date(2010, 1, 1), date(2040, 1, 1)), st.just(date(3000, 1, 1)), st.just(DAY))
_people = st.builds(
    Person,
    account_id=st.sampled_from(["user", "User", "pi1", None]),
    request_handler_id=st.sampled_from([1, 2, 3, None]),
    email=st.sampled_from(["a@example.org", None]),
    active=st.booleans(),
)
_codes = st.sampled_from([PROJECT, OTHER])


def _some(items: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(items, max_size=3, unique=True).map(tuple)


any_facts = st.builds(
    Facts,
    day=st.dates(date(2010, 1, 1), date(2040, 1, 1)),
    asked_account=st.just("user"),
    asked_project=st.one_of(st.none(), _codes),
    mous_exists=st.booleans(),
    archive_projects=_some(_codes),
    block_projects=_some(_codes),
    accounts=_some(_people),
    pis=_some(st.tuples(_codes, _people)),
    data_delegees=_some(st.tuples(_codes, _people)),
    delivery_pis=_some(_people),
    release_dates=_some(_days),
    states=_some(st.sampled_from(["Delivered", "delivered", "Verified", "QA3InProgress"])),
)


@given(any_facts)
def test_entitled_is_never_in_doubt(given_facts: Facts) -> None:
    """Entitled: Delivered, a known MOUS of one confirmed project, an account to write to, and a ground."""
    found = decide(given_facts)
    if found.verdict != "entitled":
        return
    assert given_facts.states == ("Delivered",)
    assert given_facts.mous_exists
    assert given_facts.projects == (given_facts.project,)
    assert given_facts.asked_project in {None, given_facts.project}
    assert given_facts.account is not None
    assert given_facts.account.account_id == "user"
    assert given_facts.account.active
    assert given_facts.account.email
    match found.why:
        case "pi":
            assert any(person.account_id == "user" for code, person in given_facts.pis if code == given_facts.project)
        case "delegee":
            handler = given_facts.account.request_handler_id
            assert handler is not None
            assert any(
                (code, person.request_handler_id) == (given_facts.project, handler)
                for code, person in given_facts.data_delegees
            )
        case _:
            assert found.why == "public"
            assert given_facts.release_dates
            assert all(released and released <= given_facts.day for released in given_facts.release_dates)


@given(any_facts, st.integers(0, 5000))
def test_time_only_opens(given_facts: Facts, days: int) -> None:
    """What is entitled today is entitled on every later day, with the same facts otherwise."""
    later = replace(given_facts, day=given_facts.day + timedelta(days))
    if given_facts.public:
        assert later.public
    if decide(given_facts).verdict == "entitled":
        assert decide(later).verdict == "entitled"


@given(any_facts)
def test_refusals_are_certain(given_facts: Facts) -> None:
    """A refusal stands on a fact, not on the lack of one; words and evidence exist for every verdict."""
    found = decide(given_facts)
    match found.verdict:
        case "invalid_mous":
            assert not given_facts.mous_exists
        case "invalid_user":
            assert not given_facts.accounts
        case "not_entitled":
            assert given_facts.ground is None
            assert given_facts.project
        case "not_delivered":
            assert found.why in given_facts.states
            assert found.why != "Delivered"
        case _:
            assert found.why
    words = explain(found, given_facts)
    assert words.isprintable()
    assert words.endswith(".")
    assert json.loads(json.dumps(given_facts.to_json())) == given_facts.to_json()


@given(any_facts)
def test_another_project_never_helps(given_facts: Facts) -> None:
    """PIs and delegees of other projects change no verdict."""
    pruned = replace(
        given_facts,
        pis=tuple(item for item in given_facts.pis if item[0] == given_facts.project),
        data_delegees=tuple(item for item in given_facts.data_delegees if item[0] == given_facts.project),
    )
    assert decide(pruned) == decide(given_facts)


# ── reading the rows ─────────────────────────────────────────────────────────────────────────────────────────

ASKED = ("asked", {"value": PROJECT})


def read(*rows: tuple[str, Mapping[str, object]]) -> Facts:
    """Facts of these rows and a question."""
    return Facts.from_rows([ASKED, *rows], "user", DAY)


def test_rows_become_facts() -> None:
    """Text is trimmed, doubles are one, dates lose their time, and what a row does not name is absent."""
    person = {"account_id": "user ", "request_handler_id": 2, "email": " ", "active": "T"}
    found = read(
        ("asa", {"value": PROJECT}),
        ("asa", {"value": PROJECT + "  "}),
        ("block", {"value": None, "account_id": None}),
        ("account", person),
        ("delegee", {"value": PROJECT, **person}),
        ("delivery", {"release_date": datetime.fromisoformat("2026-06-15T18:30"), "request_handler_id": None}),
        ("delivery", {"release_date": datetime.fromisoformat("2026-06-15T02:00"), "request_handler_id": None}),
        ("delivery", {"release_date": "2026-01-01 00:00:00", "request_handler_id": 7}),
        ("delivery", {"release_date": None}),
        ("state", {"value": "Delivered      "}),
    )
    assert (found.archive_projects, found.block_projects, found.project_source) == ((PROJECT,), (), "archive")
    assert found.account == Person("user", 2, active=True)
    assert found.pi is None
    assert found.is_delegee
    assert set(found.release_dates) == {date(2026, 6, 15), date(2026, 1, 1), None}
    assert [person.request_handler_id for person in found.delivery_pis] == [7]
    assert found.state == "Delivered"
    assert found.to_json()["public_from"] is None


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("asa", {"value": PROJECT})],
        [ASKED, ("asked", {"value": OTHER})],
        [ASKED, ("delivery", {"release_date": "soon"})],
        [ASKED, ("delivery", {"release_date": 20260101.5})],
        [ASKED, ("account", {"account_id": 7})],
        [ASKED, ("account", {"account_id": "user", "request_handler_id": "2"})],
        [ASKED, ("delegee", {"request_handler_id": 2})],
    ],
)
def test_rows_that_are_no_answer(rows: list[tuple[str, Mapping[str, object]]]) -> None:
    """An answer without its own question, or of other types, is an error: never a refusal."""
    with pytest.raises(ArchiveError, match="cannot be read") as caught:
        Facts.from_rows(rows, "user", DAY)
    assert caught.value.hint


def test_facts_as_json() -> None:
    """The evidence has these keys."""
    shown = facts(**AS_DELEGEE).to_json()
    assert list(shown) == [
        "day", "mous_exists", "projects", "project_source", "account", "account_hint", "pi", "delivery_pi", "delegees",
        "is_pi", "is_delegee", "release_dates", "public", "public_from", "state",
    ]  # fmt: skip
    assert shown["delegees"][0]["account_id"] == "user"
    assert shown["account_hint"] is None


def test_verdicts_compare() -> None:
    """A verdict is a value: the engine compares the new one with the stored one."""
    assert decide(BASE) == Verdict("not_entitled", "proprietary")
