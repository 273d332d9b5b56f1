"""The history: append-only rows, each with the hash over its own content and the row before it.

Its head goes to syslog after each transaction and into a header of each letter, so that a history cut at its
end shows too (`history --verify --head SEQ:HASH`).
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import sqlite3
from collections.abc import Iterator

from aogconsole.times import now_text
from aogconsole.values import Value, value

COLUMNS = ("seq", "at", "who", "via", "verb", "kind", "entity", "origin", "target", "why", "data")
START = "0" * 64


@value(frozen=True)
class Actor(Value):
    """Who acts: the operating system's user and host, and through what (`cli 4711`, `engine 4712`)."""

    who: str
    via: str

    @classmethod
    def current(cls, via: str) -> Actor:
        """The account this process runs under; never a name typed in."""
        return cls(f"{_account()}@{os.uname().nodename}", f"{via} {os.getpid()}")

    @classmethod
    def engine(cls) -> Actor:
        """The engine of this process: what it does by itself is no person's act."""
        return cls(f"engine@{os.uname().nodename}", f"engine {os.getpid()} of {_account()}")


def _account() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid{os.getuid()}"


def digest(previous: str, values: tuple[object, ...]) -> str:
    """SHA-256 over the previous row's hash and this row's values, as JSON in the order of COLUMNS."""
    import hashlib  # OpenSSL is slow to load, and most verbs only read

    content = json.dumps([previous, *values], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def append(
    connection: sqlite3.Connection,
    actor: Actor,
    verb: str,
    kind: str,
    entity: int | None,
    origin: str | None,
    target: str | None,
    why: str,
    data: str,
) -> tuple[int, str]:
    """Append one row inside the caller's transaction; returns the new head (seq, hash)."""
    seq, previous = head(connection)
    values = (seq + 1, now_text(), actor.who, actor.via, verb, kind, entity, origin, target, why, data)
    hashed = digest(previous, values)
    connection.execute(
        f"insert into history ({', '.join(COLUMNS)}, hash) values ({', '.join('?' * 12)})", (*values, hashed)
    )
    return seq + 1, hashed


def head(connection: sqlite3.Connection) -> tuple[int, str]:
    """Number and hash of the newest row."""
    row = connection.execute("select seq, hash from history order by seq desc limit 1").fetchone()
    return (int(row[0]), str(row[1])) if row else (0, START)


def verify(connection: sqlite3.Connection, witness: tuple[int, str] | None = None) -> list[str]:
    """Sentences on what is wrong: a broken chain, a state the history does not lead to, a head that is gone."""
    connection.execute("begin")  # one moment's view of history and states, while others write
    try:
        return list(_problems(connection, witness))
    finally:
        connection.execute("rollback")


def _problems(connection: sqlite3.Connection, witness: tuple[int, str] | None) -> Iterator[str]:
    previous, expected = START, 1
    states: dict[tuple[str, int], str] = {}
    for row in connection.execute(f"select {', '.join(COLUMNS)}, hash from history order by seq"):
        values = tuple(row)[:-1]
        if row["seq"] != expected:
            yield f"row {expected} is missing: the next one is {row['seq']}"
            expected = row["seq"]
        if digest(previous, values) != row["hash"]:
            yield f"row {row['seq']} is not what was written: its hash does not fit"
        if witness and row["seq"] == witness[0] and row["hash"] != witness[1]:
            yield f"row {row['seq']} has not the hash that was witnessed"
        if row["target"] is not None and row["entity"] is not None:
            was = states.get((row["kind"], row["entity"]))
            if was != row["origin"]:
                yield f"row {row['seq']}: {row['kind']} {row['entity']} was {was}, not {row['origin']}"
            states[row["kind"], row["entity"]] = row["target"]
        previous, expected = row["hash"], expected + 1
    if witness and witness[0] >= expected:
        yield f"row {witness[0]}, which was witnessed, is missing: the history was cut after {expected - 1}"
    for kind in ("request", "run", "letter"):
        for row in connection.execute(f"select id, state from {kind}"):
            told = states.get((kind, row["id"]))
            if told != row["state"]:
                yield f"{kind} {row['id']} is {row['state']}, but the history leads to {told}"


def announce(path: str, seq: int, hashed: str) -> None:
    """Send the head to syslog (a datagram to its socket); a machine without one loses nothing but the witness."""
    if not path:
        return
    import socket

    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.setblocking(False)
        syslog.connect(path)
        syslog.send(f"<134>aogconsole[{os.getpid()}]: history head {seq} {hashed}".encode())
