"""What stagecalms printed, read into milestones and an outcome. Pure: a function of the output's bytes alone.

The formats are those of the procedure's two transcripts (revision 1, 2019-08-05), to the letter where they are
fixed. A line ends with LF, CR LF or CR (rsync's progress); trailing blanks do not matter; lines in between do not.
A line that is over 4 kB, not UTF-8 or not printable is never a milestone. Memory is bounded whatever comes.

Nearly every line is log that says nothing, and the link brings hundreds of MB a second. So the lines of a chunk are
split (`BytesIO` is twice as fast at it as `splitlines`) and told apart by their first bytes without a loop in Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO
from operator import itemgetter
from typing import NamedTuple

from aogconsole.errors import InvalidId
from aogconsole.ids import MousUid, ProjectCode, Ticket

Value = str | int | float
Bytes = bytes  # the class below has a property of that name

LONGEST_LINE = 4096
"""Bytes; a longer line is counted, and is no milestone."""
MOST_OF_A_KIND = 500
"""Milestones kept of each kind: no honest run comes near it."""


@dataclass(frozen=True, slots=True)
class Milestone:
    """One thing the run said it does or has done.

    | kind | values | the line |
    |---|---|---|
    | `url` | url | The staging directory will be accessible at ... |
    | `looking` | | Looking for cluster node with low load ... |
    | `node` | node | DATAMACHINE chosen: ... |
    | `host` | user, host | Working as USER@HOST ... |
    | `workdir` | directory | (re-)creating directory ... |
    | `rhel5` | | Old project, using RHEL5 build of CASA. |
    | `generating_begun` | | Now generating the calibrated MS(s) ... |
    | `checking` | | Checking for pre-existing MSs for the following EBs ... |
    | `execution_block_listed` | uid | the execution block's UID, alone on its line |
    | `execution_block` | uid, found (bool) | MS for UID was (not) found among the already staged MSs ... |
    | `regenerating` | | None or not all of the needed MSs found ... |
    | `reusing` | | All (of the) needed MSs (were) found ... (wording unknown: our guess) |
    | `copying` | | Copying over the generated MSs ... |
    | `file` | name | a tar's name in rsync's list |
    | `received` | bytes, rate (bytes a second) | sent ... received ... bytes/sec |
    | `total` | bytes, speedup | total size is ... |
    | `deleting_logs`, `deleting_workdir` | | Deleting redundant logs ..., Deleting temporary work directory ... |
    | `completed` | project, mous, ticket, url | Staging of ... completed, and the line "at URL" after it |
    | `deletion` | days, date (as printed) | Data will be deleted ... |
    | `failed` | directory, mous | Failed. Please investigate ... |
    | `workdir_kept` | directory | The working directory ... was not removed. |
    """

    kind: str
    text: str
    """The line (of `completed`: both), printable, without trailing blanks."""
    values: Mapping[str, Value]
    offset: int
    """Of the line's first byte: with the kind, the milestone's key within its run."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """Exit 0, and the completion block of this project, MOUS and ticket with the URL printed first."""

    url: str
    days: int | None
    """Until the data are deleted, as printed; None when the line is missing."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The failure block of this MOUS, and no completion block."""

    directory: str
    workdir: str | None
    """Left on the cluster, as printed."""


@dataclass(frozen=True, slots=True)
class Unclear:
    """Neither is certain: a person decides."""

    why: str
    """One sentence."""


Outcome = Succeeded | Failed | Unclear


class _Mark(NamedTuple):
    kind: str
    head: str  # the first four characters of the line
    pattern: str
    convert: Mapping[str, Callable[[str], Value]] = {}


def _whole(text: str) -> int:
    return int(text.replace(",", ""))


def _decimal(text: str) -> float:
    return float(text.replace(",", ""))


def _mous(text: str) -> str:
    try:
        return MousUid.parse(text).mail
    except InvalidId:
        return text


_WORD = "[!-~]{1,1000}"  # printable ASCII, no blanks
_WHOLE = "[0-9][0-9,]{0,29}"  # rsync prints separators, or none, by its version
_REAL = _WHOLE + r"(?:\.[0-9]{1,9})?"
_UID = "uid___[A-Za-z0-9]{1,16}_X[0-9a-f]{1,12}_X[0-9a-f]{1,12}"
_MARKS = (
    _Mark("url", "The ", f"The staging directory will be accessible at +(?P<url>{_WORD})"),
    _Mark("looking", "Look", "Looking for cluster node.*"),
    _Mark("node", "DATA", f"DATAMACHINE chosen: *(?P<node>{_WORD})"),
    _Mark("host", "Work", rf"Working as (?P<user>[!-?A-~]+)@(?P<host>{_WORD}?)(?: ?\.\.\.)?"),
    _Mark("workdir", "(re-", r"\(re-\)creating directory (?P<directory>/.*)"),
    _Mark("rhel5", "Old ", "Old project, using RHEL5 build of CASA.*"),
    _Mark("generating_begun", "Now ", "Now generating the calibrated MS.*"),
    _Mark("checking", "Chec", "Checking for pre-existing MSs.*"),
    _Mark("execution_block_listed", "uid_", f"(?P<uid>{_UID})"),
    _Mark(
        "execution_block", "MS f", f"MS for (?P<uid>{_UID}) was (?P<found>(?:not )?found).*", {"found": "found".__eq__}
    ),
    _Mark("regenerating", "None", "None or not all of the needed MSs.*"),
    _Mark("reusing", "All ", "All (?:of )?(?:the )?needed MSs .*found.*"),
    _Mark("copying", "Copy", "Copying over the generated MSs.*"),
    _Mark("file", "uid_", rf"(?P<name>{_UID}[!-.0-~]*\.(?:tar|tgz|tar\.gz))"),
    _Mark(
        "received",
        "sent",
        f"sent {_WHOLE} bytes +received (?P<bytes>{_WHOLE}) bytes +(?P<rate>{_REAL}) bytes/sec",
        {"bytes": _whole, "rate": _decimal},
    ),
    _Mark(
        "total",
        "tota",
        f"total size is (?P<bytes>{_WHOLE}) +speedup is (?P<speedup>{_REAL}).*",
        {"bytes": _whole, "speedup": _decimal},
    ),
    _Mark("deleting_logs", "Dele", "Deleting redundant logs.*"),
    _Mark("deleting_workdir", "Dele", "Deleting temporary work directory.*"),
    _Mark(
        "completed",
        "Stag",
        rf"Staging of calibrated MS\(s\) for (?P<project>{_WORD}) (?P<mous>{_WORD})"
        " +helpdesk ticket +#?(?P<ticket>[0-9]*) *completed",
        {"mous": _mous},
    ),
    _Mark("at", "at h", f"at (?P<url>http{_WORD})"),
    _Mark(
        "deletion",
        "Data",
        "Data will be deleted (?P<days>[0-9]{1,4}) days? from (?P<date>.+?) *(?:unless .*)?",
        {"days": int},
    ),
    _Mark(
        "failed",
        "Fail",
        rf"Failed\. Please investigate +(?P<directory>{_WORD}) +and possibly remove incomplete data"
        rf" belonging to MOUS +(?P<mous>{_WORD}?)\.?",
        {"mous": _mous},
    ),
    _Mark("workdir_kept", "The ", f"The working directory (?P<directory>{_WORD}) .*was not removed.*"),
)
_HEADS = frozenset(mark.head.encode() for mark in _MARKS)
_BY_HEAD = {
    head: tuple((mark, re.compile(mark.pattern)) for mark in _MARKS if mark.head.encode() == head) for head in _HEADS
}
_FIRST_BYTES = frozenset(head[0] for head in _HEADS)
_DECISIVE = frozenset({"url", "completed", "deletion", "failed", "workdir_kept"})


class Transcript:
    """The output of one run, fed as it comes: any split of the bytes gives the same milestones.

    For one thread at a time. Costs about half a nanosecond a byte.
    """

    def __init__(self, project: ProjectCode, mous: MousUid, ticket: Ticket, url_prefixes: Iterable[str]) -> None:
        self._job = {"project": project.value, "mous": mous.mail, "ticket": ticket.value}
        starts = "|".join(re.escape(prefix.rstrip("/")) for prefix in url_prefixes)
        self._staged_url = re.compile(f"(?:{starts})/(?:preview/)?[0-9a-f]{{32}}/?")
        self._bytes = self._lines = 0
        self._rest = b""  # of the unterminated last line, as long as it can still be a milestone
        self._rest_length = 0
        self._after_cr = False
        self._milestones: list[Milestone] = []
        self._kept: dict[str, int] = {}
        self._completing: Milestone | None = None  # "... completed" without its "at URL" yet
        self._first: dict[str, Milestone] = {}
        self._differing: set[str] = set()

    @property
    def bytes(self) -> int:
        """How many were fed."""
        return self._bytes

    @property
    def lines(self) -> int:
        """How many have ended."""
        return self._lines

    @property
    def milestones(self) -> tuple[Milestone, ...]:
        """All so far, at most MOST_OF_A_KIND of each kind."""
        return tuple(self._milestones)

    def feed(self, chunk: Bytes) -> tuple[Milestone, ...]:
        """Read on; returns the new milestones."""
        if not chunk:
            return ()
        known, start = len(self._milestones), self._bytes
        self._bytes += len(chunk)
        if self._after_cr and chunk.startswith(b"\n"):
            self._lines -= 1  # a CR LF cut in two: its CR has ended the line
        self._after_cr = chunk.endswith(b"\r")
        if b"\r" in chunk:
            self._lines -= chunk.count(b"\r\n")
            chunk = chunk.replace(b"\r", b"\n")
        lines = list(BytesIO(chunk))
        tail = b"" if lines[-1].endswith(b"\n") else lines.pop()
        self._lines += len(lines)
        if lines and self._rest_length:
            ending = lines.pop(0)
            self._end_rest(ending, start)
            start += len(ending)
        if not _FIRST_BYTES.isdisjoint(map(itemgetter(0), lines)):
            self._read_lines(lines, start)
        if self._rest_length + len(tail) <= LONGEST_LINE:
            self._rest += tail
        self._rest_length += len(tail)
        return tuple(self._milestones[known:])

    def close(self) -> tuple[Milestone, ...]:
        """No more comes: an unterminated last line is a line too. Returns the new milestones."""
        known = len(self._milestones)
        if self._rest_length:
            self._lines += 1
            self._end_rest(b"", self._bytes)
        return tuple(self._milestones[known:])

    def outcome(self, exit_status: int | None) -> Outcome:
        """What became of the run, once it is over and the transcript closed (rules: design section 3).

        `exit_status` None: not known.
        """
        if self._completing or "completed" in self._first:
            why = self._doubt(exit_status)
            if why:
                return Unclear(why)
            days = self._value("deletion", "days")
            return Succeeded(str(self._value("url", "url")), days if isinstance(days, int) else None)
        failed = self._first.get("failed")
        if failed is None:
            return Unclear(f"The run ended {_status(exit_status)} and printed neither a completion nor a failure.")
        if "failed" in self._differing:
            return Unclear("The output has failure blocks that differ.")
        if failed.values["mous"] != self._job["mous"]:
            return Unclear(f"The failure block is for MOUS {failed.values['mous']}, not for {self._job['mous']}.")
        workdir = self._value("workdir_kept", "directory")
        return Failed(str(failed.values["directory"]), None if workdir is None else str(workdir))

    def _doubt(self, exit_status: int | None) -> str:
        """Why the completion block does not prove success; empty when it does."""
        if "failed" in self._first:
            return "The output has both a completion block and a failure block."
        completed, url = self._first.get("completed"), self._value("url", "url")
        if self._completing or completed is None:
            return "The completion block has no URL."
        if "completed" in self._differing:
            return "The output has completion blocks that differ."
        for name, expected in self._job.items():
            if completed.values[name] != expected:
                found = completed.values[name] or "(none)"
                return f"The completion block is for {name.replace('mous', 'MOUS')} {found}, not for {expected}."
        if "url" in self._differing:
            return "The output announces more than one staging directory."
        if completed.values["url"] != url:
            return "The completion block's URL is not the one that was printed first."
        if not self._staged_url.fullmatch(str(url)):
            return "The URL is not that of a staging directory under staging.url_prefixes."
        return "" if exit_status == 0 else f"The run printed its completion but ended {_status(exit_status)}."

    def _value(self, kind: str, name: str) -> Value | None:
        """A value of the first milestone of a kind; None when there is none, or others say otherwise."""
        first = self._first.get(kind)
        return None if first is None or kind in self._differing else first.values[name]

    def _read_lines(self, lines: Iterable[Bytes], offset: int) -> None:
        for line in lines:
            if line[0] in _FIRST_BYTES and line[:4] in _HEADS and len(line) <= LONGEST_LINE:
                self._read_line(line, offset)
            offset += len(line)

    def _end_rest(self, ending: Bytes, start: int) -> None:
        """The line begun in earlier chunks ends with the first bytes of the chunk at `start`."""
        if self._rest_length + len(ending) <= LONGEST_LINE:
            self._read_line(self._rest + ending, start - self._rest_length)
        self._rest, self._rest_length = b"", 0

    def _read_line(self, line: Bytes, offset: int) -> None:
        try:
            text = line.decode().rstrip()
        except UnicodeDecodeError:
            return
        if not text.isprintable():
            return
        for mark, pattern in _BY_HEAD.get(line[:4], ()):
            if found := pattern.fullmatch(text):
                values = {name: mark.convert.get(name, str)(value) for name, value in found.groupdict().items()}
                self._note(Milestone(mark.kind, text, values, offset))
                return

    def _note(self, milestone: Milestone) -> None:
        match milestone.kind:
            case "completed":
                if self._completing:
                    self._differing.add("completed")
                self._completing = milestone
                return
            case "at":
                begun, self._completing = self._completing, None
                if begun is None:
                    return
                text, values = f"{begun.text} {milestone.text}", {**begun.values, **milestone.values}
                milestone = Milestone("completed", text, values, begun.offset)
        kind = milestone.kind
        if kind in _DECISIVE and milestone.values != self._first.setdefault(kind, milestone).values:
            self._differing.add(kind)
        if self._kept.get(kind, 0) < MOST_OF_A_KIND:
            self._kept[kind] = self._kept.get(kind, 0) + 1
            self._milestones.append(milestone)


def _status(exit_status: int | None) -> str:
    return "with an unknown exit status" if exit_status is None else f"with exit status {exit_status}"


_PHASES = {
    "looking": "looking for a node",
    "node": "preparing",
    "generating_begun": "checking for existing data",
    "regenerating": "generating",
    "reusing": "using existing data",
    "copying": "copying",
    "deleting_logs": "cleaning up",
    "completed": "completed",
    "failed": "failed",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is."""

    phase: str
    """In words; "starting" before the first that is known."""
    fraction: float | None
    """0 to 1, by time; 1 only when completed; None when there is nothing to compare with."""


def progress(milestones: Iterable[Milestone], elapsed: float, durations: Sequence[float]) -> Progress:
    """Where a run is after `elapsed` seconds; `durations` as in `expected_end`."""
    phase = "starting"
    for milestone in milestones:
        phase = _PHASES.get(milestone.kind, phase)
    usual = usual_duration(durations)
    if phase == "completed":
        return Progress(phase, 1.0)
    if phase == "failed" or not usual:
        return Progress(phase, None)
    return Progress(phase, min(max(elapsed, 0.0) / usual, 0.99))


def usual_duration(durations: Sequence[float]) -> float | None:
    """The median of earlier succeeded runs' durations, in seconds; None without earlier runs."""
    ordered, middle = sorted(durations), len(durations) // 2
    if not ordered:
        return None
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def expected_end(started_at: datetime, durations: Sequence[float]) -> datetime | None:
    """When a run begun at `started_at` should be over, by earlier succeeded runs' seconds; None without any."""
    usual = usual_duration(durations)
    return None if usual is None else started_at + timedelta(seconds=usual)
