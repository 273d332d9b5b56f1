"""A site's calibrator for test nodes: writes real MeasurementSets with casacore, as fast or slowly as told.

It knows nothing of the console but the calibrator's contract: called with PROJECT MOUS EB... in the working directory,
it leaves `<EB>.ms.split.cal` there. What it does is ordered by MOUS, and each of its calls is written down.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Variant = Literal["ok", "fails", "missing", "killed", "stubborn"]
"""`fails`: one MeasurementSet, then scriptForPI's error and 3; `missing`: ends with 0 and leaves one too few; `killed`:
dies by SIGKILL in the middle; `stubborn`: never ends, and neither it nor its child, which has left its session,
hears SIGTERM."""

PROGRAM = r"""
import json, os, signal, subprocess, sys, time, zlib

state, project, mous, *blocks = sys.argv[1:]
order = {"variant": "ok", "megabytes": 0, "pace": 0.0, "held": False}
for name in ("all", mous):
    try:
        order.update(json.load(open(f"{state}/order.{name}")))
    except FileNotFoundError:
        pass


def note(file, **what):
    descriptor = os.open(f"{state}/{file}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, json.dumps(what).encode() + b"\n")
    os.close(descriptor)


def say(line):
    print(time.strftime("%Y-%m-%d %H:%M:%S INFO ") + line, flush=True)


def write(block):
    from casacore.tables import default_ms, makearrcoldesc, maketabdesc
    import numpy

    rows = max(10, order["megabytes"] * 1000)
    ms = default_ms(f"{block}.ms.split.cal")
    tiles = {"TYPE": "TiledShapeStMan", "NAME": "Tiles", "SPEC": {"DEFAULTTILESHAPE": numpy.array([2, 64, 1000])}}
    column = makearrcoldesc("DATA", 0j, ndim=2, valuetype="complex", datamanagertype="TiledShapeStMan",
                            datamanagergroup="Tiles")
    ms.addcols(maketabdesc(column), {"*1": tiles | {"COLUMNS": ["DATA"]}})
    ms.addrows(rows)
    random = numpy.random.default_rng(zlib.crc32(block.encode()))
    for first in range(0, rows, 1000):
        count = min(1000, rows - first)
        noise = random.standard_normal((count, 64, 2), dtype=numpy.float32)
        ms.putcol("DATA", noise + 1j * noise[::-1], first, count)
        if count == 1000:
            say(f"applycal {block} row {first}")
            time.sleep(order["pace"] / 10)
    ms.putcol("SCAN_NUMBER", numpy.arange(rows, dtype=numpy.int32))
    ms.close()


note("calls", pid=os.getpid(), project=project, mous=mous, blocks=blocks, cwd=os.getcwd())
say(f"calibrating {mous}")
if order["variant"] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleep = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"]
    note("children", pid=subprocess.Popen(sleep, start_new_session=True).pid)
    time.sleep(600)
while order["held"] and not os.path.exists(f"{state}/go.{mous}"):
    say("still at it")
    time.sleep(0.05)
for number, block in enumerate(blocks):
    if order["variant"] == "missing" and number == len(blocks) - 1:
        break
    if order["variant"] in ("fails", "killed") and number == min(1, len(blocks) - 1):
        if order["variant"] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        print(f"ERROR: {block}.ms.split.cal was not created.", flush=True)
        sys.exit(3)
    say(f"hifa_bandpass {block}")
    write(block)
    time.sleep(order["pace"])
note("ends", pid=os.getpid(), mous=mous)
print("Done. Please find results in current directory.", flush=True)
"""


@dataclass(frozen=True)
class Call:
    """One call of the calibrator, as it wrote it down itself."""

    pid: int
    project: str
    mous: str
    blocks: list[str]
    cwd: str


class Calibrator:
    """The program in a folder of its own, which every account of the test's nodes may write to."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        folder.chmod(0o777)
        self.folder = folder
        (folder / "calibrate.py").write_text(PROGRAM)

    @property
    def command(self) -> str:
        """The setting `stagecalms.calibrator`."""
        return shlex.join([sys.executable, "-B", str(self.folder / "calibrate.py"), str(self.folder)])

    def order(
        self,
        mous: str = "all",
        *,
        variant: Variant = "ok",
        megabytes: int = 0,
        pace: float = 0.0,
        held: bool = False,
    ) -> None:
        """What calls for a MOUS do from now on: size of each MS, seconds for each, waiting for `release`."""
        order = {"variant": variant, "megabytes": megabytes, "pace": pace, "held": held}
        fresh = self.folder / f"order.{mous}.new"
        fresh.write_text(json.dumps(order))
        fresh.rename(self.folder / f"order.{mous}")

    def release(self, mous: str) -> None:
        """Let calls for this MOUS go on."""
        (self.folder / f"go.{mous}").touch()

    def calls(self, mous: str | None = None) -> list[Call]:
        """The calls so far, in order."""
        found = [Call(**line) for line in self._lines("calls")]
        return [call for call in found if mous in (None, call.mous)]

    def ended(self, mous: str | None = None) -> int:
        """How many of them came to their good end."""
        return sum(mous in (None, line["mous"]) for line in self._lines("ends"))

    def living(self) -> list[int]:
        """Processes of calls that live, with the children that left their sessions."""
        pids = [line["pid"] for file in ("calls", "children") for line in self._lines(file)]
        return [pid for pid in pids if _is_ours(pid)]

    def _lines(self, name: str) -> list[dict[str, Any]]:
        file = self.folder / name
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _is_ours(pid: int) -> bool:
    """A process of the calibrator's interpreter, and no zombie: its number may be another's by now."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return words[0] == os.fsencode(sys.executable)


@dataclass(frozen=True)
class Opened:
    """A tar that is a MeasurementSet."""

    name: str
    rows: int
    sha256: str


def open_tar(tar: Path, scratch: Path) -> Opened:
    """Unpack it and read the MeasurementSet in it with casacore, all of its main table; raises when it is none."""
    from casacore.tables import table

    block = tar.name.removesuffix(".ms.split.cal.tar")
    with tarfile.open(tar) as archive:
        names = archive.getnames()
    tops = {name.split("/")[0] for name in names}
    assert tops == {f"{block}.ms.split.cal"}, f"{tar.name} holds {sorted(tops)}"
    scratch.mkdir(exist_ok=True)
    subprocess.run(["tar", "-xf", str(tar), "-C", str(scratch)], check=True)
    with table(str(scratch / f"{block}.ms.split.cal"), ack=False) as main:
        scans = list(main.getcol("SCAN_NUMBER"))
        assert scans == list(range(len(scans))), f"{tar.name}: not the rows that were written"
        assert main.getcol("DATA").shape == (len(scans), 64, 2)
        with table(main.getkeyword("ANTENNA"), ack=False) as antennas:
            assert "NAME" in antennas.colnames()
    with tar.open("rb") as stream:
        return Opened(tar.name, len(scans), hashlib.file_digest(stream, "sha256").hexdigest())


def check_served(directory: Path, blocks: Sequence[str], scratch: Path) -> dict[str, Opened]:
    """That a staged directory is complete and right: served, every block's tar opens, the checksums are those told."""
    assert directory.stat().st_mode & 0o7777 == 0o755, f"{directory.stat().st_mode:o}"
    names = {f"{block}.ms.split.cal.tar" for block in blocks}
    assert {path.name for path in directory.glob("*.tar")} == names
    for path in directory.iterdir():
        assert path.is_file(), path
        assert not path.is_symlink(), path
        assert path.stat().st_mode & 0o444 == 0o444, f"{path.name} cannot be read by the web server"
    assert (directory / "_README.txt").stat().st_size > 0
    lines = (directory / "SHA256SUMS").read_text().splitlines()
    told = {name.lstrip("*"): digest for digest, name in (line.split(None, 1) for line in lines)}
    opened = {name: open_tar(directory / name, scratch) for name in sorted(names)}
    assert {name: told.get(name) for name in names} == {name: one.sha256 for name, one in opened.items()}
    return opened
