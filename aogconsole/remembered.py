"""What the console remembers from one start to the next: a small JSON file in the state folder, journal by journal.

It is a convenience and never a cause of trouble: a file that is broken, huge or not ours reads as nothing
remembered, and one that cannot be written is not.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aogconsole.text import clean

MOST_BYTES = 256 * 1024
MOST_JOURNALS = 20
"""Further ones push out the one that was used longest ago."""


def state_folder() -> Path:
    """`$XDG_STATE_HOME/aogconsole`, made when it is not there and can be."""
    given = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    folder = Path(given) / "aogconsole"
    with contextlib.suppress(OSError):  # whoever writes into it is told
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def load(journal: Path) -> dict[str, Any]:
    """What was remembered of the console on this journal: texts are clean, types are for the caller to check."""
    found = _all().get(_name(journal))
    return found if isinstance(found, dict) else {}


def save(journal: Path, values: Mapping[str, Any]) -> None:
    """Remember these values, of JSON's types, in place of the last ones."""
    kept = _all()
    kept.pop(_name(journal), None)
    newest = dict([*kept.items(), (_name(journal), dict(values))][-MOST_JOURNALS:])
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        _write(json.dumps(newest))


def _name(journal: Path) -> str:
    return str(journal.absolute())


def _all() -> dict[str, Any]:
    try:
        descriptor = os.open(state_folder() / "console.json", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            data = file.read(MOST_BYTES + 1) if regular else b""
        found = _clean(json.loads(data)) if len(data) <= MOST_BYTES else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _clean(value: Any) -> Any:
    """Nothing in it can act on a terminal, whoever wrote the file."""
    match value:
        case str():
            return clean(value)
        case list():
            return [_clean(one) for one in value]
        case dict():
            return {clean(key): _clean(one) for key, one in value.items()}
        case _:
            return value


def _write(text: str) -> None:
    """Whole or not at all; two consoles may do it at the same time."""
    folder = state_folder()
    descriptor, name = tempfile.mkstemp(prefix=".console.", dir=folder)  # mode 0600
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(folder / "console.json")
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
