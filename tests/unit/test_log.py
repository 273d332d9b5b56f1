"""`log`: a run's output as lines, however it comes in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aogconsole.cli.runs import _ended, _shown
from aogconsole.ids import MousUid, ProjectCode, Ticket
from aogconsole.staging.transcript import Transcript

PIECES = st.lists(st.sampled_from([b"a", b"b c", b"\n", b"\r", b"\r\n", b"\xff", b"\x1b[2J"]), max_size=12)


def printed(chunks: list[bytes]) -> str:
    """What the command prints of these chunks."""
    text, rest = "", b""
    for chunk in chunks:
        lines, rest = _ended(rest + chunk)
        text += _shown(lines)
    return text + (_shown(rest.removesuffix(b"\r")) + "\n" if rest else "")


def test_each_step_of_a_progress_display_is_a_line() -> None:
    """rsync's bare CRs do not become one endless line of escapes, and are shown while they come."""
    assert printed([b"Copying\n\r 0%\r 50%", b"\r 100%\r\nDone\n"]) == "Copying\n\n 0%\n 50%\n 100%\nDone\n"
    assert _ended(b" 0%\r 50%\r") == (b" 0%\r", b" 50%\r")


@given(st.lists(PIECES.map(b"".join), max_size=6))
def test_any_split_prints_the_same_lines_as_are_counted(chunks: list[bytes]) -> None:
    """The lines printed are those of `log_lines`, and nothing of a control character is left."""
    transcript = Transcript(
        ProjectCode.parse("2012.1.00357.S"),
        MousUid.parse("uid___A002_X788a57_X29"),
        Ticket.parse("15270"),
        ["http://x/"],
    )
    for chunk in chunks:
        transcript.feed(chunk)
    transcript.close()
    text = printed(chunks)
    assert text == printed([b"".join(chunks)])
    assert text.count("\n") == transcript.lines
    assert all(line.isprintable() for line in text.split("\n"))
