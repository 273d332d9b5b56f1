"""Entitlement through real Oracle Net: what the archive holds, and the verdict it must give.

The same cases are put to deliberately wrong statements, each of which must be caught by at least one case.
"""

from __future__ import annotations

import asyncio
from importlib import resources
from pathlib import Path

import pytest

from aogconsole.errors import ArchiveError, ConfigError
from aogconsole.ids import AccountId, MousUid, ProjectCode
from aogconsole.requests.entitlement import Facts, Verdict, decide, explain
from backends.oracle import OracleArchive, OracleSettings
from tests.contract.archive_cases import CASES, MOUS, MUTATIONS, PROJECT, Case
from tests.support.oracle import TestArchive


async def verdict(archive: OracleArchive, case: Case) -> tuple[Verdict, Facts]:
    """Ask and decide as the engine does."""
    project = ProjectCode.parse(case.project) if case.project else None
    answer = await archive.ask(MousUid.parse(case.mous), AccountId.parse(case.account), project)
    facts = Facts.from_rows(((row.fact, row.values) for row in answer.rows), case.account, case.day)
    return decide(facts), facts


async def caught(queries: Path) -> bool:
    """Whether a case has another verdict with the site's statement than it must have."""
    for case in CASES:
        with TestArchive() as server:
            server.load(case.sql)
            found, _ = await verdict(OracleArchive(server.settings(queries=queries)), case)
        if (found.verdict, found.why) != (case.verdict, case.why):
            return True
    return False


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_verdict(archive: TestArchive, case: Case) -> None:
    """Every verdict and every doubt, from the tables through Oracle Net; the words for it are one clean sentence."""
    archive.load(case.sql)
    found, facts = await verdict(OracleArchive(archive.settings()), case)
    assert (found.verdict, found.why) == (case.verdict, case.why)
    words = explain(found, facts)
    assert words.isprintable()
    assert words.endswith(".")
    assert "None" not in words
    assert len(archive.statements) == 1


@pytest.mark.parametrize("name", MUTATIONS)
async def test_wrong_statement_is_caught(tmp_path: Path, name: str) -> None:
    """A statement that is wrong in one place gives a wrong verdict in at least one case."""
    ours = resources.files("backends").joinpath("sql/oracle/entitlement.sql").read_text("utf-8")
    right, wrong = MUTATIONS[name]
    assert ours.count(right) == 1, "the mutation no longer fits the statement"
    (tmp_path / "entitlement.sql").write_text(ours.replace(right, wrong), encoding="utf-8")
    assert await caught(tmp_path)


async def test_site_statement_replaces_ours(archive: TestArchive, tmp_path: Path) -> None:
    """A file of the same name in the folder of queries is used, its closing semicolon too, and its version is kept."""
    ours = resources.files("backends").joinpath("sql/oracle/entitlement.sql").read_text("utf-8")
    (tmp_path / "entitlement.sql").write_text(ours + ";\n", encoding="utf-8")
    question = MousUid.parse(MOUS), AccountId.parse("pi1"), None
    theirs = await OracleArchive(archive.settings(queries=tmp_path)).ask(*question)
    assert theirs.rows == (await OracleArchive(archive.settings()).ask(*question)).rows
    assert archive.statements[0] == ours.rstrip()
    (tmp_path / "entitlement.sql").write_text(ours.replace("1", "2", 1), encoding="utf-8")
    other = OracleArchive(archive.settings(queries=tmp_path))
    assert theirs.query_version != other._version


@pytest.mark.parametrize(
    "statement",
    [
        "select :mous as something, :account as x, :project as y from dual",
        "select 'mous' as fact from dual where :mous || :account || :project = 'x'",
    ],
)
async def test_statement_that_answers_nothing_is_unknown(archive: TestArchive, tmp_path: Path, statement: str) -> None:
    """A site's statement without our columns, or without its own question, is an error and never a refusal."""
    (tmp_path / "entitlement.sql").write_text(statement, encoding="utf-8")
    case = Case("", None, "")
    with pytest.raises(ArchiveError, match=r"entitlement\.sql|cannot be read"):
        await verdict(OracleArchive(archive.settings(queries=tmp_path)), case)


async def test_many_at_once(archive: TestArchive) -> None:
    """Twenty checks at the same time have a connection each and do not disturb one another."""
    adapter = OracleArchive(archive.settings())
    accounts = ["pi1", "del1", "other", "nobody"] * 5
    found = await asyncio.gather(*(verdict(adapter, Case("", None, "", account=account)) for account in accounts))
    assert [verdict.why for verdict, _ in found] == ["pi", "delegee", "proprietary", "unknown_account"] * 5


async def test_evidence(archive: TestArchive) -> None:
    """The facts hold what the seed's draft query shows: PI and delegees with names, e-mail, account ids and ARCs."""
    archive.load("update account set lastname = 'O''Néill' where account_id = 'del1';")
    _, facts = await verdict(OracleArchive(archive.settings()), Case("", None, "", account="del1"))
    shown = facts.to_json()
    person = {"preferredarc": "NA", "email": "bob@example.org", "active": True}
    delegee = {"account_id": "del1", "request_handler_id": 2, "firstname": "Bob", "lastname": "O'Néill", **person}
    assert shown["delegees"] == [delegee]
    assert shown["account"] == delegee
    assert (shown["pi"]["lastname"], shown["pi"]["preferredarc"]) == ("Pí", "EU")
    assert shown["delivery_pi"] == [shown["pi"]]
    assert (shown["projects"], shown["project_source"]) == ([PROJECT], "archive")
    assert (shown["release_dates"], shown["public_from"], shown["public"]) == (["3000-01-01"], "3000-01-01", False)
    assert (shown["state"], shown["day"], shown["is_pi"], shown["is_delegee"]) == (
        "Delivered",
        "2026-06-15",
        False,
        True,
    )


async def test_answer_tells_how_it_was_got(archive: TestArchive) -> None:
    """Statement version and time taken come with the rows."""
    answer = await OracleArchive(archive.settings()).ask(MousUid.parse(MOUS), AccountId.parse("pi1"), None)
    assert len(answer.query_version) == 12
    assert 0 <= answer.took_ms < 10_000


async def test_ping(archive: TestArchive) -> None:
    """A ping logs in, tries the statement, and gives the server's version."""
    assert (await OracleArchive(archive.settings()).ping())[0].isdigit()
    assert len(archive.statements) == 1


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "ALIAS",
        "http://host:1521/X",
        "(DESCRIPTION=(",
        "aog/secret-word@host:1521/X",
        "host:port/X",
        "tcp://:1521/X",
    ],
)
def test_bad_dsn(dsn: str) -> None:
    """A DSN that cannot be read is an error of the configuration, and no password in it is repeated."""
    with pytest.raises(ConfigError, match="dsn") as caught:
        OracleArchive(OracleSettings(dsn, "u", "p"))
    assert "secret-word" not in str(caught.value)
    assert caught.value.hint


def test_bad_queries(tmp_path: Path) -> None:
    """A folder of queries that is not there, or not readable as text, is an error of the configuration."""
    settings = OracleSettings("host:1521/X", "u", "p", queries=tmp_path / "no")
    with pytest.raises(ConfigError, match="no folder"):
        OracleArchive(settings)
    (tmp_path / "entitlement.sql").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"entitlement\.sql"):
        OracleArchive(OracleSettings("host:1521/X", "u", "p", queries=tmp_path))
