"""What the console remembers: kept per journal, private, and never a cause of trouble."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aogconsole import remembered

ONE, TWO = Path("/somewhere/one.db"), Path("/somewhere/two.db")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, in a state folder of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "aogconsole" / "console.json"


def test_each_journal_has_its_own(state: Path) -> None:
    """What is saved is loaded again, for this journal; the file is the operator's alone."""
    remembered.save(ONE, {"theme": "nord", "logs": [{"wrap": True}], "selected": 7})
    remembered.save(TWO, {"theme": "gruvbox"})
    remembered.save(ONE, {"theme": "dracula", "selected": None})
    assert remembered.load(ONE) == {"theme": "dracula", "selected": None}
    assert remembered.load(TWO) == {"theme": "gruvbox"}
    assert remembered.load(Path("/somewhere/else.db")) == {}
    assert state.stat().st_mode & 0o777 == 0o600
    assert list(state.parent.iterdir()) == [state], "no half-written file is left"


def test_old_journals_are_forgotten() -> None:
    """The file does not grow: the journal used longest ago makes room."""
    for number in range(remembered.MOST_JOURNALS + 5):
        remembered.save(Path(f"/j/{number}.db"), {"n": number})
        remembered.save(ONE, {"n": -1})
    assert remembered.load(Path("/j/0.db")) == {}
    assert remembered.load(Path("/j/24.db")) == {"n": 24}
    assert remembered.load(ONE) == {"n": -1}


@pytest.mark.parametrize("content", [
    b"", b"{", b"[1, 2]", b"7", b'{"/somewhere/one.db": [1]}', b"\xff\xfe", b"[" * 100_000,
    b'{"a": "' + b"x" * remembered.MOST_BYTES + b'"}',
], ids=lambda content: content[:12].decode("ascii", "replace"))  # fmt: skip
def test_a_broken_file_is_nothing_remembered(state: Path, content: bytes) -> None:
    """Broken, of another shape, deep or huge: nothing is loaded, and the next save mends it."""
    state.parent.mkdir()
    state.write_bytes(content)
    assert remembered.load(ONE) == {}
    remembered.save(ONE, {"theme": "nord"})
    assert remembered.load(ONE) == {"theme": "nord"}


def test_a_hostile_file_cannot_act_on_the_terminal(state: Path) -> None:
    """Control characters in keys and values become visible text."""
    state.parent.mkdir()
    state.write_text(json.dumps({str(ONE): {"filter": "a\x1b]52;c;eA==\x07", "\x1b[2J": ["\u202e"]}}))
    loaded = remembered.load(ONE)
    assert loaded == {"filter": "a\\x1b]52;c;eA==\\x07", "\\x1b[2J": ["\\u202e"]}


def test_what_is_no_file_is_not_waited_for(state: Path) -> None:
    """A pipe or a folder in its place is nothing remembered; saving replaces the one and leaves the other."""
    state.parent.mkdir()
    os.mkfifo(state)
    assert remembered.load(ONE) == {}
    remembered.save(ONE, {"a": 1})
    assert remembered.load(ONE) == {"a": 1}
    state.unlink()
    state.mkdir()
    remembered.save(ONE, {"a": 1})
    assert remembered.load(ONE) == {}
    assert list(state.parent.iterdir()) == [state]


def test_a_folder_that_cannot_be_made_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where the state folder should be: nothing is loaded, nothing is saved, nothing is raised."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    remembered.save(ONE, {"a": 1})
    assert remembered.load(ONE) == {}


def test_what_json_cannot_hold_is_not_saved() -> None:
    """A mistake of ours in a value loses what would have been remembered, not the console."""
    remembered.save(ONE, {"a": 1})
    remembered.save(ONE, {"a": object()})
    assert remembered.load(ONE) == {"a": 1}
