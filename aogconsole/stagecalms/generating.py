"""The generation on the node: begun once, its log passed on through every cut, and judged by what it left."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from aogconsole.errors import OutsideError
from aogconsole.stagecalms.job import TAR, Generation, Work
from aogconsole.stagecalms.patience import Patience
from aogconsole.text import clean
from backends.cluster_ports import Cluster, LinkCut, Packed, WorkState

PassOn = Callable[[bytes], Awaitable[None]]
SHA256 = re.compile("[0-9a-f]{64}", re.ASCII)
PAUSE = 0.2
"""Seconds before a worker is looked at again whose log ended although it goes on."""
FRUITLESS = 10
"""Times that the rest of an ended worker's log is asked for in vain, before it is done without."""


class GenerationFailed(OutsideError):
    """The calibrator or the packing ended with a fault, or the worker is gone."""


@contextlib.asynccontextmanager
async def closing(stream: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """A generator that is ended when its reader is, with the processes it has."""
    try:
        yield stream
    finally:
        close: Callable[[], Awaitable[Any]] | None = getattr(stream, "aclose", None)
        if close is not None:
            await close()


async def generate(
    cluster: Cluster, work: Work, generation: Generation, patience: Patience, pass_on: PassOn
) -> Sequence[Packed]:
    """The tars, one of each execution block. Raises GenerationFailed, NodeGone, NodeRefused."""
    await patience.reach(lambda: cluster.begin(work, generation))
    status = await _follow(cluster, work, patience, pass_on)
    if status != 0:
        raise GenerationFailed(f"the generation on {work.node} ended with exit status {status}: see what it said above")
    packed = await patience.reach(lambda: cluster.packed(work))
    return _complete(packed, generation)


async def _follow(cluster: Cluster, work: Work, patience: Patience, pass_on: PassOn) -> int | None:
    """Pass the log on to its end; the worker's exit status."""
    offset = fruitless = 0
    while True:
        before = offset
        try:
            async with closing(cluster.follow(work, offset)) as log:
                async for data in log:
                    offset += len(data)
                    patience.heard()
                    await pass_on(data)
            state = await cluster.state(work)
        except LinkCut as cut:
            await patience.wait(cut)
            continue
        fruitless = 0 if offset > before else fruitless + 1
        if state.state == "ended" and (state.log <= offset or fruitless > FRUITLESS):
            return state.status
        if state.state in ("ended", "running"):
            patience.heard()
            await asyncio.sleep(PAUSE)
            continue
        raise GenerationFailed(_gone(work, state))


def _gone(work: Work, state: WorkState) -> str:
    if state.state == "lost":
        why = f": {clean(state.why)}" if state.why else ", without a word: was it killed, or the node restarted?"
        return f"the generation on {work.node} is gone{why}"
    if state.state == "absent":
        return f"the working directory {work.directory} on {work.node} is no longer there"
    return f"the generation on {work.node} has not begun"


def _complete(packed: Sequence[Packed], generation: Generation) -> Sequence[Packed]:
    """Those that were asked for, in order; what else was left is not ours to stage."""
    found = {tar.name: tar for tar in packed}
    names = [f"{block}{TAR}" for block in generation.blocks]
    if missing := [name for name in names if name not in found]:
        raise GenerationFailed(f"the generation left no {missing[0]}")
    for name in names:
        if found[name].size <= 0 or not SHA256.fullmatch(found[name].sha256):
            raise GenerationFailed(f"the node does not tell the size and checksum of {name}")
    return [found[name] for name in names]
