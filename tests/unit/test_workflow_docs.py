"""The page on the workflows names every table and column that they fill, and every table that they read."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from aogconsole.reingestion.workflows.asdm import FIELDS

PAGE = resources.files("aogconsole").joinpath("docs", "workflows.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("dialect", ["postgres", "sqlite"])
def test_every_column_is_on_the_page(dialect: str) -> None:
    """Those of both databases, which are the same."""
    script = resources.files("backends").joinpath("sql", "metadata", dialect, "002_ingest.sql").read_text("utf-8")
    tables = re.findall(r"create table (\w+) \((.*?)\n\);", script, re.DOTALL)
    assert len(tables) == 12
    for table, body in tables:
        columns = [word for word in re.findall(r"^    (\w+)", body, re.MULTILINE) if word != "primary"]
        row = re.search(rf"^\| `{table}` \| (.*) \|$", PAGE, re.MULTILINE)
        assert row, table
        assert set(columns) <= set(re.findall(r"`(\w+)`", row[1])), table


def test_every_table_that_is_read_is_on_the_page() -> None:
    """Of the ASDM."""
    assert all(f"`{table}.xml`" in PAGE for table in FIELDS)
