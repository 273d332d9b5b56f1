"""A site of which nothing answers, for what happens around the engine; and pilots that wait no longer than needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.idle import quick_pilots

CONFIG = """
[journal]
path = "journal.db"
syslog = ""
[archive]
dsn = "127.0.0.1:1/NONE"
[staging]
host = "127.0.0.1"
port = 1
[mail]
inbox = "maildir:inbox"
outgoing = "maildir:outbox"
"""
"""A site of which nothing answers: the engine runs, and tries."""


@pytest.fixture(autouse=True, scope="session")
def _quick_pilots() -> Iterator[None]:
    with quick_pilots():
        yield


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration file."""
    for name in ("inbox", "outbox"):
        for part in ("cur", "new", "tmp"):
            (tmp_path / name / part).mkdir(parents=True)
    file = tmp_path / "config.toml"
    file.write_text(CONFIG)
    file.chmod(0o600)
    return file
