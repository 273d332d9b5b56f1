"""The metadata database by its address: PostgreSQL, or SQLite for the embedded site."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aogconsole.errors import ConfigError

if TYPE_CHECKING:
    from backends.metadata_postgres import PostgresMetadata
    from backends.metadata_sqlite import SqliteMetadata


def open_metadata(
    dsn: str, password: str = "", application: str = "aogconsole", timeout: float = 30.0
) -> PostgresMetadata | SqliteMetadata:
    """`postgresql://USER@HOST:PORT/DATABASE` or `sqlite:PATH`; connects when it is first asked.

    `application` is the name that PostgreSQL shows of us; `timeout` bounds each call, in seconds. ConfigError.
    """
    if dsn.startswith("sqlite:"):
        from backends.metadata_sqlite import SqliteMetadata

        path = dsn.removeprefix("sqlite:")
        if not path or path.startswith(":"):
            raise ConfigError("[metadata] dsn names no file.", "write sqlite:PATH")
        return SqliteMetadata(Path(path).expanduser(), timeout)
    if dsn.startswith(("postgresql://", "postgres://")):
        from backends.metadata_postgres import PostgresMetadata

        return PostgresMetadata(dsn, password, application, timeout)
    raise ConfigError(  # it may hold a password: it is not repeated
        "[metadata] dsn is neither postgresql:// nor sqlite:.",
        "write postgresql://USER@HOST/DATABASE, or sqlite:PATH for the embedded site",
    )
