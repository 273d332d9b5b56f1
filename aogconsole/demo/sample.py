"""The sample day: its mails, what is to become of each, the archive's rows, and what each run does.

A demo copies the day into its folder when it is made there: who changes it there and starts again has another day.
"""

from __future__ import annotations

import errno
import hashlib
import json
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from importlib.resources import as_file, files
from io import BytesIO
from pathlib import Path
from shutil import copytree, rmtree

from aogconsole.demo.reingestionday import ReingestionDay
from aogconsole.errors import UsageError
from aogconsole.stagecalms.job import MS

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a disk says that has no more room for us."""
LESS = 100_000
"""How much smaller than a real one the demo's MeasurementSets are."""
TABLE = b"Type = Measurement Set\nSubType =\n\nA sample: aogconsole demo calibrates nothing.\n"
"""What `calibrate.sh` leaves too."""


@dataclass(frozen=True)
class Expected:
    """One mail of the day, and what is to become of it."""

    mail: str
    """Its file's name."""
    expected: str
    """The request's state at the end of the day; without a request what the mail is: `ignored` or `duplicate`."""
    verdict: str | None
    ground: str | None
    """Of an entitled one: pi, delegee or public."""
    letters: tuple[str, ...]
    """The kinds of the letters sent."""
    late: bool
    """It arrives while the operator is at work, not before."""
    what: str
    """One line of words."""

    @property
    def makes_request(self) -> bool:
        """Whether a request comes of it."""
        return self.expected not in ("ignored", "duplicate")


class SampleDay:
    """The day in a demo's folder."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError when what lies there is no day."""
        if not folder.exists():
            with as_file(files("aogconsole.demo").joinpath("day")) as supplied:
                copytree(supplied, folder)
        self.runs = folder / "runs.txt"
        self._mails = folder / "mails"
        self.reingestion = ReingestionDay.read(folder / "reingestion.json")
        """What arrives to be ingested again; None without that file."""
        try:
            self.archive = (folder / "archive.sql").read_text(encoding="utf-8")
            rows = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
            self.mails = tuple(
                Expected(
                    row["mail"], row["expected"], row.get("verdict"), row.get("ground"),
                    tuple(row.get("letters", ())), bool(row.get("late")), row["what"],
                )
                for row in rows
            )  # fmt: skip
            missing = [one.mail for one in self.mails if not (self._mails / one.mail).is_file()]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{folder} holds no sample day: {error}", "remove it, and it is made anew") from None
        if missing:
            raise UsageError(f"{folder} lacks {', '.join(missing)}", "remove it, and it is made anew")

    def stage_before(self, web_root: Path) -> None:
        """Stage what `runs.txt` says is staged already, unless it was: a complete directory of each such MOUS.

        Raises UsageError, OSError (no room).
        """
        try:
            for line in self.runs.read_text(encoding="utf-8").splitlines():
                mous, _, rest = line.partition(" ")
                kind, *words = rest.split() or [""]
                directory = web_root / hashlib.md5(f"{web_root}{mous}".encode(), usedforsecurity=False).hexdigest()
                if kind == "reuse" and mous != "#" and not directory.exists():
                    try:
                        _stage(directory, int(words[1]) // LESS, words[2:])
                    except OSError:
                        rmtree(directory, ignore_errors=True)  # half of it is none
                        raise
        except (OSError, ValueError, IndexError) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            raise UsageError(f"{self.runs} cannot be followed: {error}", "remove it, and it is made anew") from None

    def deliver(self, mail: str, maildir: Path) -> None:
        """Put a mail of the day into a Maildir, unless it was delivered before."""
        if any(maildir.glob(f"*/*.{mail}*")):
            return
        name = f"{time.time_ns()}.{mail}"
        raw = f"Date: {formatdate()}\n".encode() + (self._mails / mail).read_bytes()
        try:
            (maildir / "tmp" / name).write_bytes(raw)
        except OSError:
            (maildir / "tmp" / name).unlink(missing_ok=True)  # half a mail is none
            raise
        (maildir / "tmp" / name).rename(maildir / "new" / name)


def _stage(directory: Path, size: int, blocks: Sequence[str]) -> None:
    """As the staging command leaves it; `size`: bytes of each MeasurementSet. Not served until it is whole."""
    directory.mkdir(0o700)
    for block in blocks:
        name = f"{block}{MS}"
        with tarfile.open(directory / f"{name}.tar", "w") as tar:
            for file, content in ((f"{name}/table.info", TABLE), (f"{name}/table.f0", bytes(size))):
                about = tarfile.TarInfo(file)
                about.size = len(content)
                tar.addfile(about, BytesIO(content))
    directory.chmod(0o755)
