"""stagecalms' output becomes milestones and an outcome, whatever else is in it."""

from __future__ import annotations

import itertools
import json
import random
import re
import time
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aogconsole.ids import MousUid, ProjectCode, Ticket
from aogconsole.staging.transcript import (
    LONGEST_LINE,
    MOST_OF_A_KIND,
    Failed,
    Milestone,
    Outcome,
    Progress,
    Succeeded,
    Transcript,
    Unclear,
    expected_end,
    progress,
    usual_duration,
)

CORPUS = Path(__file__).parents[1] / "corpora" / "transcripts"
PREFIXES = ("http://almascience.eso.org/arcdistribution/", "https://almascience.eso.org/arcdistribution/")
SUCCESS = (CORPUS / "success.txt").read_bytes()
FAILURE = (CORPUS / "failure.txt").read_bytes()
SEPARATORS = (CORPUS / "rhel5_separators.txt").read_bytes()
URL = "http://almascience.eso.org/arcdistribution/preview/cdb386950af8ee148b3a9bc633942c6a"
DIRECTORY = "/var/www/html/arcdistribution/preview/cdb386950af8ee148b3a9bc633942c6a"
FIRST_LINE, BLOCK = SUCCESS.splitlines(keepends=True)[0], b"".join(SUCCESS.splitlines(keepends=True)[-3:])


def transcript(
    mous: str = "uid___A002_X788a57_X29",
    project: str = "2012.1.00357.S",
    ticket: str = "15270",
    prefixes: tuple[str, ...] = PREFIXES,
) -> Transcript:
    """An empty one, of the procedure's job unless told otherwise."""
    return Transcript(ProjectCode.parse(project), MousUid.parse(mous), Ticket.parse(ticket), prefixes)


def read(*chunks: bytes, mous: str = "uid___A002_X788a57_X29", ticket: str = "15270") -> Transcript:
    """The transcript of these chunks, closed."""
    whole = transcript(mous, ticket=ticket)
    for chunk in chunks:
        whole.feed(chunk)
    whole.close()
    return whole


def outcome(output: bytes, exit_status: int | None = 0, **job: str) -> Outcome:
    """What the whole output means."""
    return read(output, **job).outcome(exit_status)


def kinds(whole: Transcript) -> list[str]:
    """Of all milestones, in order."""
    return [milestone.kind for milestone in whole.milestones]


def values(whole: Transcript, kind: str) -> list[dict[str, object]]:
    """Of all milestones of a kind."""
    return [dict(milestone.values) for milestone in whole.milestones if milestone.kind == kind]


def test_the_procedures_success() -> None:
    """The procedure's terminal output gives each milestone once, in order, and success with its URL and days."""
    whole = read(SUCCESS)
    assert kinds(whole) == [
        "url", "looking", "node", "host", "workdir", "generating_begun", "checking", "execution_block_listed",
        "execution_block", "regenerating", "copying", "file", "received", "total", "deleting_logs",
        "deleting_workdir", "completed", "deletion",
    ]  # fmt: skip
    assert {k: v for milestone in whole.milestones for k, v in milestone.values.items()} == {
        "url": URL, "node": "arcp9", "user": "arcproc", "host": "arcp9.hq.eso.org",
        "directory": "/opsw/work/pipeproc/autopipeline/tmp/WORK11018", "uid": "uid___A002_X7e4988_X1f2",
        "found": False, "name": "uid___A002_X7e4988_X1f2.ms.split.cal.tar", "bytes": 15445729280,
        "rate": 95073848.52, "speedup": 1.0, "project": "2012.1.00357.S", "mous": "uid___A002_X788a57_X29",
        "ticket": "15270", "days": 28, "date": "Wed Jul 17 17:09:18 UTC 2019",
    }  # fmt: skip
    assert values(whole, "received") == [{"bytes": 15449500342, "rate": 95073848.52}]
    assert whole.outcome(0) == Succeeded(URL, 28)
    assert (whole.bytes, whole.lines) == (len(SUCCESS), SUCCESS.count(b"\n"))


def test_the_procedures_failure() -> None:
    """The procedure's failure names directory, MOUS (in the other spelling) and working directory."""
    whole = read(FAILURE, mous="uid___A001_X11f_X9c")
    assert kinds(whole) == ["failed", "workdir_kept"]
    assert values(whole, "failed") == [{"directory": DIRECTORY, "mous": "uid___A001_X11f_X9c"}]
    expected = Failed(DIRECTORY, "/opsw/work/pipeproc/autopipeline/tmp/WORK23486")
    assert [whole.outcome(status) for status in (0, 1, 255, None)] == [expected] * 4
    assert outcome(FAILURE.splitlines()[0], 1, mous="uid___A001_X11f_X9c") == Failed(DIRECTORY, None)


def test_separators_rhel5_and_other_retention() -> None:
    """Numbers with separators, the RHEL5 notice, blocks found and not found, several files, 21 days, no preview."""
    whole = transcript("uid___A002_X303d38_X7", "2011.0.00010.S", "20417")
    whole.feed(SEPARATORS)
    assert values(whole, "received") == [{"bytes": 1708, "rate": 46896.90}]
    assert values(whole, "total") == [{"bytes": 1576001234, "speedup": 890910.82}]
    assert "rhel5" in kinds(whole)
    assert [found["found"] for found in values(whole, "execution_block")] == [True, False]
    assert len(values(whole, "file")) == len(values(whole, "execution_block_listed")) == 2
    assert values(whole, "deletion") == [{"days": 21, "date": "Tue Aug  6 05:00:01 CEST 2019"}]
    url = "https://almascience.eso.org/arcdistribution/0123456789abcdef0123456789abcdef"
    assert whole.outcome(0) == Succeeded(url, 21)


def test_milestones_are_json_and_lie_where_they_say() -> None:
    """A milestone survives JSON, and its offset is that of its line."""
    for milestone in read(SUCCESS).milestones:
        assert SUCCESS[milestone.offset :].startswith(milestone.text.split(" at http")[0][:60].encode())
        assert json.loads(json.dumps(dict(milestone.values))) == milestone.values


@pytest.mark.parametrize("output", [SUCCESS, SEPARATORS, FAILURE])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b" \t\r\n", b"\r"])
def test_every_line_end_and_trailing_blanks(output: bytes, end: bytes) -> None:
    """LF, CR LF and CR end a line alike; blanks before it do not matter."""
    plain, other = read(output), read(output.replace(b"\n", end))
    assert [(m.kind, m.text, m.values) for m in other.milestones] == [
        (m.kind, m.text, m.values) for m in plain.milestones
    ]
    assert other.lines == plain.lines


ENDS = (b"\n", b"\r\n", b"\r")
LINES = st.sampled_from(
    [*SUCCESS.splitlines(), *SEPARATORS.splitlines(), *FAILURE.splitlines(), b"\xc3\xa9t\xc3\xa9", b""]
)


@given(
    st.lists(st.tuples(LINES | st.binary(max_size=40), st.sampled_from(ENDS)), max_size=30),
    st.lists(st.integers(0, 3000), max_size=40),
)
def test_any_split_gives_the_same(lines: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    """However the bytes are cut, the milestones, counts and outcome are those of the whole, and none is told twice."""
    output = b"".join(line + end for line, end in lines)
    whole, parts = read(output), transcript()
    told: list[Milestone] = []
    edges = sorted({0, *(cut for cut in cuts if cut < len(output)), len(output)})
    for start, end in itertools.pairwise(edges):
        told += parts.feed(output[start:end])
    told += parts.close()
    assert tuple(told) == whole.milestones == parts.milestones
    assert (parts.bytes, parts.lines) == (whole.bytes, whole.lines) == (len(output), len(output.splitlines()))
    assert parts.outcome(0) == whole.outcome(0)


def test_byte_by_byte_among_much_log() -> None:
    """Milestones strewn among thousands of log lines are found, cut or not."""
    chosen = random.Random(7)
    log = [b"2019-07-17 13:59:02 INFO hifa_bandpass spw %d" % number for number in range(3000)]
    for line in SUCCESS.splitlines():
        log.insert(chosen.randrange(len(log)), line)
    output = b"\n".join(log) + b"\n"
    whole = read(output)
    assert len(whole.milestones) >= len(SUCCESS.splitlines()) - 5
    assert read(*(output[at : at + 1] for at in range(len(output)))).milestones == whole.milestones
    assert whole.lines == len(log)


def test_log_lines_between_and_rsync_progress() -> None:
    """Log between the lines, in the completion block too, and rsync's progress by CR do not disturb."""
    noisy = SUCCESS.replace(b"\nsent", b"\n  1,234,567 100%   95.07MB/s    0:00:01\r  2,000 10%\r  3,000 11%\nsent")
    noisy = noisy.replace(b" completed\n", b" completed\n2019-07-17 17:09:18 WARN something\n\n")
    assert outcome(noisy) == Succeeded(URL, 28)
    assert kinds(read(noisy)) == kinds(read(SUCCESS))


def test_an_unterminated_last_line_counts_at_the_end_only() -> None:
    """The last line without its end is a line, and a milestone, only when the output is over."""
    whole = transcript()
    assert whole.feed(b"DATAMACHINE chosen: arcp1") == ()
    assert whole.lines == 0
    assert [milestone.values["node"] for milestone in whole.feed(b"2\nDATAMACHINE chosen: arcp9")] == ["arcp12"]
    assert [milestone.values["node"] for milestone in whole.close()] == ["arcp9"]
    assert (whole.lines, whole.close()) == (2, ())


COMPLETED = b"Staging of calibrated MS(s) for 2012.1.00357.S uid___A002_X788a57_X29 helpdesk ticket #15270 completed\n"


@pytest.mark.parametrize(
    ("output", "status", "why"),
    [
        (b"", 0, "neither"),
        (b"", 1, "exit status 1 and printed neither"),
        (b"", None, "unknown exit status"),
        (SUCCESS, 1, "ended with exit status 1"),
        (SUCCESS, None, "unknown exit status"),
        (SUCCESS.replace(b"X29 helpdesk", b"X2a helpdesk"), 0, "for MOUS uid___A002_X788a57_X2a, not for"),
        (SUCCESS.replace(b"2012.1.00357.S", b"2012.1.00358.S"), 0, "for project"),
        (SUCCESS.replace(b"#15270", b"#15271"), 0, "for ticket 15271"),
        (SUCCESS.replace(b"#15270", b"#"), 0, r"for ticket \(none\)"),
        (
            SUCCESS.replace(b"\nat http://almascience", b"\nat http://elsewhere"),
            0,
            "not the one that was printed first",
        ),
        (BLOCK, 0, "not the one that was printed first"),
        (SUCCESS + FIRST_LINE.replace(b"cdb", b"abc"), 0, "more than one staging directory"),
        (SUCCESS + BLOCK.replace(b"15270", b"15271"), 0, "completion blocks that differ"),
        (SUCCESS.replace(b"\nat http", b"\nnear http"), 0, "no URL"),
        (SUCCESS + COMPLETED, 0, "no URL"),
        (SUCCESS.replace(b"\nat http", b"\n" + COMPLETED + b"at http"), 0, "differ"),
        (SUCCESS + FAILURE, 0, "both"),
        (FAILURE + COMPLETED, 1, "both"),
        (FAILURE, 1, "failure block is for MOUS uid___A001_X11f_X9c"),
        (SUCCESS.replace(b"eso.org/arc", b"eso.org.evil.example/arc"), 0, "url_prefixes"),
        (SUCCESS.replace(b"cdb386950af8ee148b3a9bc633942c6a", b".."), 0, "url_prefixes"),
        (
            SUCCESS.replace(b"cdb386950af8ee148b3a9bc633942c6a", b"cdb386950af8ee148b3a9bc633942c6a?x"),
            0,
            "url_prefixes",
        ),
        (SUCCESS.replace(b"42c6a", b"42c6a\x1b[0m"), 0, "no URL|not the one"),
        (SUCCESS.replace(b"42c6a", b"42c6a and more"), 0, "no URL"),
    ],
)
def test_unclear(output: bytes, status: int | None, why: str) -> None:
    """Everything that is not certain is unclear, with one sentence why, that never holds the URL."""
    found = outcome(output, status)
    assert isinstance(found, Unclear)
    assert re.search(why, found.why)
    assert found.why.endswith(".")
    assert "http" not in found.why
    assert found.why.isprintable()


def test_failure_blocks_that_differ() -> None:
    """A second failure block of another MOUS makes the first one uncertain."""
    other = FAILURE.replace(b"X9c", b"X9d")
    assert isinstance(outcome(FAILURE + other, 1, mous="uid___A001_X11f_X9c"), Unclear)
    assert isinstance(outcome(FAILURE + FAILURE, 1, mous="uid___A001_X11f_X9c"), Failed)


def test_logs_of_two_jobs_swapped() -> None:
    """The log of one job never decides another's request (fault F19)."""
    other = SUCCESS.replace(b"X788a57_X29", b"X788a57_X31").replace(b"15270", b"15271")
    assert isinstance(outcome(SUCCESS, mous="uid___A002_X788a57_X31", ticket="15271"), Unclear)
    assert isinstance(outcome(other), Unclear)
    assert isinstance(outcome(other, mous="uid___A002_X788a57_X31", ticket="15271"), Succeeded)


def test_a_repeated_block_is_the_same_block() -> None:
    """The same lines twice say nothing new; a deletion line that disagrees leaves the days unknown."""
    assert outcome(SUCCESS + SUCCESS) == Succeeded(URL, 28)
    assert outcome(SUCCESS + BLOCK.splitlines(keepends=True)[2].replace(b"28", b"15")) == Succeeded(URL, None)
    assert outcome(SUCCESS.split(b"Data will")[0]) == Succeeded(URL, None)


def test_prefixes_with_or_without_a_last_slash() -> None:
    """A prefix matches whole path segments only."""
    for prefix in ("http://almascience.eso.org/arcdistribution", "http://almascience.eso.org/arcdistribution/preview/"):
        whole = transcript(prefixes=(prefix,))
        whole.feed(SUCCESS)
        assert isinstance(whole.outcome(0), Succeeded)
    for prefixes in (("http://almascience.eso.org/arc",), ("https://almascience.eso.org/arcdistribution",), ()):
        whole = transcript(prefixes=prefixes)
        whole.feed(SUCCESS)
        assert isinstance(whole.outcome(0), Unclear)


@given(st.lists(LINES | st.binary(max_size=30), max_size=12), st.sampled_from([0, 1, None]))
def test_never_success_without_the_whole_block(lines: list[bytes], status: int | None) -> None:
    """Success needs exit 0 and, in the output, the first line and the two lines of the completion block."""
    output = b"\n".join(lines) + b"\n"
    if isinstance(outcome(output, status), Succeeded):
        assert status == 0
        needed = (FIRST_LINE, COMPLETED, b"at " + URL.encode() + b"\n")
        assert all(line in output for line in needed)


def test_long_lines_and_binary() -> None:
    """A line of 40 MB, binary, and marks inside other lines: counted, no milestone, little memory."""
    whole = transcript()
    chunk = b"x" * (1 << 20)
    tracemalloc.start()
    for _ in range(40):
        whole.feed(chunk)
    whole.feed(b"\nprefix DATAMACHINE chosen: arcp9\n\xff\xfe" + FIRST_LINE[:20] + b"\xff\n")
    whole.feed(b"DATAMACHINE chosen: " + b"a" * LONGEST_LINE + b"\nDATAMACHINE chosen: \x1b[31mred\n")
    whole.feed(random.Random(3).randbytes(1 << 20) + b"\n")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert whole.milestones == ()
    assert peak < 20 << 20
    assert whole.feed(SUCCESS)
    assert whole.outcome(0) == Succeeded(URL, 28)


def test_a_flood_of_milestones_is_bounded() -> None:
    """Repeated marks are kept up to a limit, and the outcome still sees all of them."""
    whole = read(SUCCESS + b"DATAMACHINE chosen: arcp9\n" * 5000 + FIRST_LINE.replace(b"cdb", b"abc") * 5000)
    assert kinds(whole).count("node") == kinds(whole).count("url") == MOST_OF_A_KIND
    assert isinstance(whole.outcome(0), Unclear)


@pytest.mark.parametrize("line", [b"2019-07-17 INFO task", b"Tasks and more words of a log", b"", b"a", b"\r"])
def test_linear_in_the_bytes(line: bytes) -> None:
    """64 MB of any one line are read in seconds."""
    chunk = (line + b"\n") * ((1 << 20) // (len(line) + 1))
    whole, begun = transcript(), time.monotonic()
    for _ in range(64 if len(line) > 5 else 4):
        whole.feed(chunk)
    assert time.monotonic() - begun < 20
    assert whole.feed(SUCCESS)


def test_phases_and_fractions() -> None:
    """The phase follows the milestones, the fraction the usual duration; 1 only when completed."""
    milestones = read(SUCCESS).milestones
    phases = [progress(milestones[:count], 50, [100]).phase for count in range(len(milestones) + 1)]
    assert list(dict.fromkeys(phases)) == [
        "starting", "looking for a node", "preparing", "checking for existing data", "generating", "copying",
        "cleaning up", "completed",
    ]  # fmt: skip
    assert progress(milestones[:9], 50, [90, 100, 4000]) == Progress("checking for existing data", 0.5)
    assert progress(milestones[:10], 5000, [100]).fraction == 0.99
    assert progress(milestones[:10], 50, []).fraction is None
    assert progress(milestones, 50, []) == Progress("completed", 1.0)
    assert progress(read(FAILURE).milestones, 50, [100]) == Progress("failed", None)


def test_expected_end_is_the_median() -> None:
    """Earlier runs' median is added to the start; without earlier runs nothing is expected."""
    begun = datetime(2026, 11, 21, 13, tzinfo=UTC)
    assert expected_end(begun, []) is None
    assert expected_end(begun, [3600.0, 60.0, 7200.0]) == datetime(2026, 11, 21, 14, tzinfo=UTC)
    assert usual_duration([1.0, 2.0, 4.0, 9.0]) == 3.0
