"""A cluster of one node that does what the test says at each call: for faults that no server can time.

Only the port is scripted. What it "makes" are files below a folder, so that what is copied, compared and left over is
real. The same flow over real OpenSSH is in tests/integration/test_stagecalms.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from aogconsole.ids import MousUid
from aogconsole.stagecalms import words
from aogconsole.stagecalms.choice import Block
from aogconsole.stagecalms.job import TAR, Generation, Node, Work
from backends.cluster_ports import LinkCut, Making, Packed, Tell, WorkState

Meanwhile = Callable[[str], None]


def nothing(call: str) -> None:
    """Nothing happens meanwhile."""


@dataclass
class ScriptedCluster:
    """`meanwhile` is called with each call's name, and may raise: then the call does."""

    folder: Path
    log: bytes = b"calibrating\nDone. Please find results in current directory.\n"
    status: int = 0
    content: bytes = b"a measurement set" * 50_000
    dead: bool = False
    meanwhile: Meanwhile = nothing
    lost: bool = False
    cuts: list[int] = field(default_factory=list)
    """Bytes after which the next follow, or fetch, is cut."""
    spoil: int = 0
    """So many fetches bring a wrong byte."""
    hold: asyncio.Event | None = None
    """The worker does not end before this is set."""
    calls: list[str] = field(default_factory=list)
    fetched: int = 0
    """Bytes that went over the line."""
    generation: Generation | None = None
    ended: bool = False
    node: Node = field(default_factory=lambda: Node.parse("arcp9.hq.eso.org"))

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.meanwhile(name)

    async def place(
        self, work: PurePosixPath, token: str, *, old: bool, tell: Tell, making: Making | None = None
    ) -> Work | None:
        """See the port."""
        found = Work(self.node, PurePosixPath(self.folder / work.name), token)
        if making:
            making(found)
        self._call("place")
        if self.dead:
            tell(words.skipped(self.node, "refused"))
            return None
        Path(found.directory).mkdir()
        return found

    async def forget(self, token: str) -> None:
        """See the port."""
        self._call("forget")

    async def begin(self, work: Work, generation: Generation) -> None:
        """See the port."""
        self._call("begin")
        self.generation = generation
        if not self.status:
            for block in generation.blocks:
                (Path(work.directory) / f"{block}{TAR}").write_bytes(self.content + block.encode())

    async def follow(self, work: Work, offset: int) -> AsyncIterator[bytes]:
        """See the port."""
        self._call("follow")
        end = self.cuts.pop(0) if self.cuts else None
        for start in range(offset, len(self.log), 7):
            if end is not None and start >= end:
                raise LinkCut("the connection was reset")
            yield self.log[start : start + 7]
        if self.hold:
            await self.hold.wait()

    async def state(self, work: Work) -> WorkState:
        """See the port."""
        self._call("state")
        if self.lost:
            return WorkState("lost", log=len(self.log))
        return WorkState("ended", self.status, len(self.log))

    async def packed(self, work: Work) -> Sequence[Packed]:
        """See the port."""
        self._call("packed")
        tars = sorted(Path(work.directory).glob(f"*{TAR}"))
        return [Packed(tar.name, tar.stat().st_size, hashlib.sha256(tar.read_bytes()).hexdigest()) for tar in tars]

    async def fetch(self, work: Work, names: Collection[str], into: Path) -> AsyncIterator[bytes]:
        """See the port: appends, as rsync does."""
        self._call("fetch")
        end = self.cuts.pop(0) if self.cuts else None
        yield b"receiving incremental file list\n"
        for name in sorted(names):
            yield f"{name}\n".encode()
            data = (Path(work.directory) / name).read_bytes()
            if self.spoil:
                self.spoil -= 1
                data = data[:-1] + b"?"
            with (into / name).open("ab") as file:
                start = os.fstat(file.fileno()).st_size
                part = data[start:end]
                file.write(part)
                self.fetched += len(part)
            if end is not None and start + len(part) < len(data):
                raise LinkCut("the connection was reset")
        yield f"\nsent 42 bytes  received {self.fetched} bytes  9.00 bytes/sec\n".encode()
        yield f"total size is {self.fetched}  speedup is 1.00\n".encode()

    async def end(self, work: Work) -> None:
        """See the port."""
        self._call("end")
        self.ended = True

    async def remove(self, work: Work) -> None:
        """See the port."""
        self._call("remove")
        shutil.rmtree(work.directory, ignore_errors=True)


@dataclass
class ScriptedBlocks:
    """An archive with these execution blocks: UID and QA0 status."""

    rows: Sequence[tuple[str, str]] = (("uid___A002_X7e4988_X1f2", "Pass"),)

    async def of(self, mous: MousUid) -> Sequence[Block]:
        """See the port."""
        return [Block(uid, qa0) for uid, qa0 in self.rows]
