"""aogremote's answers as values of the port: lines `key value` below `aogremote 1`. All of it is untrusted text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, cast, get_args

from aogconsole.errors import StagingError
from aogconsole.text import clean
from backends.ports import ForeignRun, Hello, HostRuns, RemoteRun, RemoteState, StagedDirectory, StartAnswer

VERSION = "aogremote 1"
Outcome = Literal["started", "already", "busy"]


def _not_understood(line: str) -> StagingError:
    return StagingError(
        f"the staging host answered '{clean(line[:80])}', which is not aogremote's",
        "does the account's shell print something at login, or is its aogremote of another version?",
    )


def _lines(answer: str) -> Iterator[tuple[str, str]]:
    first, *rest = answer.splitlines() or [""]
    if first != VERSION:
        raise _not_understood(first)
    for line in rest:
        key, _, value = line.partition(" ")
        yield key, value


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise _not_understood(text)
    return int(text)


def _time(text: str) -> int:
    """Seconds from 1970, before it too: a directory may have any time."""
    return -_number(text[1:]) if text.startswith("-") else _number(text)


def parse_hello(answer: str) -> Hello:
    """The answer of `hello`. Raises StagingError."""
    lines = list(_lines(answer))
    tools = dict(value.rpartition(" ")[::2] for key, value in lines if key == "tool")
    told = dict(lines)
    return Hello(
        host=told.get("host", ""),
        user=told.get("user", ""),
        operator=told.get("operator", ""),
        boot_id=told.get("boot", ""),
        journal=told.get("journal", ""),
        slots=_number(told.get("slots", "")),
        time=_number(told.get("time", "")),
        disk_free=_number(told.get("disk_free", "")),
        web_free=_number(told["web_free"]) if "web_free" in told else None,
        tools={name: found == "yes" for name, found in tools.items()},
        kill_user_processes=told.get("kill_user_processes") == "yes",
        filesystem=told.get("filesystem", ""),
    )


def parse_start(answer: str) -> StartAnswer:
    """The answer of `start`. Raises StagingError."""
    told = dict(_lines(answer))
    outcome = told.get("outcome", "")
    if outcome not in get_args(Outcome):
        raise _not_understood(outcome)
    return StartAnswer(cast(Outcome, outcome), _number(told.get("ours", "")), _number(told.get("foreign", "")))


def _run(told: dict[str, str]) -> RemoteRun:
    state = told.get("state", "")
    if state not in get_args(RemoteState):
        raise _not_understood(state)
    return RemoteRun(
        token=told["run"],
        state=cast(RemoteState, state),
        log_bytes=_number(told.get("log", "0")),
        exit_status=_number(told["exit"]) if "exit" in told else None,
        ended_ago=_number(told["ended_ago"]) if "ended_ago" in told else None,
        slot=_number(told["slot"]) if "slot" in told else None,
        pid=_number(told["pid"]) if "pid" in told else None,
        boot_id=told.get("boot", ""),
        stopped_by=told.get("stopped", ""),
        why=told.get("why", ""),
    )


def _runs(lines: list[tuple[str, str]]) -> tuple[RemoteRun, ...]:
    blocks: list[dict[str, str]] = []
    for key, value in lines:
        if key == "run":
            blocks.append({})
        if blocks:
            blocks[-1][key] = value
    return tuple(_run(block) for block in blocks)


def parse_run(answer: str) -> RemoteRun:
    """The answer of `status TOKEN` or `stop`. Raises StagingError."""
    runs = _runs(list(_lines(answer)))
    if len(runs) != 1:
        raise _not_understood(answer)
    return runs[0]


def parse_list(answer: str) -> HostRuns:
    """The answer of `list`. Raises StagingError."""
    lines = list(_lines(answer))
    foreign = []
    for key, value in lines:
        if key == "foreign":
            pid, _, command = value.partition(" ")
            foreign.append(ForeignRun(_number(pid), command.strip()))
    told = dict(lines)
    room = min(_number(told.get(key, "")) for key in ("disk_free", "web_free") if key in told or key == "disk_free")
    return HostRuns(_runs(lines), tuple(foreign), _number(told.get("free", "")), room)


def parse_staged(answer: str) -> tuple[StagedDirectory, ...]:
    """The answer of `staged`. Raises StagingError."""
    lines = list(_lines(answer))
    since = dict(value.rpartition(" ")[::2] for key, value in lines if key == "since")
    return tuple(
        StagedDirectory(name, key == "kept", _time(since[name]) if name in since else None)
        for key, name in lines
        if key in {"staged", "kept"}
    )
