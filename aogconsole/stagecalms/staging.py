"""One staging run, from the sweep to the completion block or the failure block. A service: it sees ports only."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import traceback
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from aogconsole.errors import AogError, OutsideError
from aogconsole.ids import MousUid
from aogconsole.stagecalms import choice, reusing, served, words
from aogconsole.stagecalms.choice import Block
from aogconsole.stagecalms.copying import copy
from aogconsole.stagecalms.generating import generate
from aogconsole.stagecalms.job import Generation, Job, Work
from aogconsole.stagecalms.patience import Patience
from aogconsole.stagecalms.readme import readme
from aogconsole.stagecalms.records import Record, Records
from aogconsole.stagecalms.slots import slot
from aogconsole.stagecalms.sweeping import sweep
from aogconsole.stagecalms.telling import Teller
from aogconsole.tasks import in_thread
from aogconsole.text import clean
from backends.cluster_ports import Blocks, Cluster

SWEEP_SECONDS = 20.0
"""For each node, to end what a killed run left there."""
END_SECONDS = 5.0
"""Within which the worker of a run that failed, or was told to stop, is ended; what is left is swept later."""
REMOVE_SECONDS = 1200.0
"""For the removal of a working directory: many files, and hundreds of GB."""


class NothingToDo(OutsideError):
    """The archive knows no execution block that could be calibrated, or no node could be had."""


@dataclass(frozen=True, slots=True)
class Site:
    """What the configuration says of the site."""

    root: Path
    """Folder of the runs (`staging.root`), absolute."""
    slots: int
    command: str
    """`staging.command`, for the slots."""
    days: int
    """Until staged data are deleted."""
    web_root: Path
    url: str
    node_user: str
    workdir: PurePosixPath
    """Folder of the working directories on the nodes, absolute."""
    calibrator: str
    rhel5_calibrator: str
    rhel5_before: str
    patience: float
    """Seconds without the node before the run has failed."""


async def stage(job: Job, site: Site, cluster: Cluster, blocks: Blocks, teller: Teller) -> bool:
    """Stage the calibrated MSs of a MOUS. True with the completion block, false with the failure block; never raises.

    When the task is cancelled (a signal) the worker is ended, and the failure block is told.
    """
    run = _Run(job, site, cluster, blocks, teller)
    try:
        await run.whole()
    except asyncio.CancelledError:
        await _undisturbed(run.give_up("it was told to stop"))
    except AogError as error:
        await _undisturbed(run.give_up(str(error), error.hint))
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        await _undisturbed(run.give_up(f"{error.strerror or type(error).__name__}{where}"))
    except Exception as error:  # the failure block is owed whatever happens
        with contextlib.suppress(OSError):
            traceback.print_exc(file=sys.stderr)
        why = f"an unexpected fault: {type(error).__name__}"
        await _undisturbed(run.give_up(why, "see the traceback on standard error"))
    else:
        return True
    return False


async def _undisturbed(work: Coroutine[None, None, None]) -> None:
    """Carry on to the end, whatever signals come."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)


async def _soon(sweeping: asyncio.Future[None]) -> None:
    """Wait for the sweep, but not long: the removal of much goes on beside the run. Raises what it raised."""
    await asyncio.wait({sweeping}, timeout=SWEEP_SECONDS)
    if sweeping.done():
        sweeping.result()


class _Run:
    def __init__(self, job: Job, site: Site, cluster: Cluster, blocks: Blocks, teller: Teller) -> None:
        self.job = job
        self.site = site
        self.cluster = cluster
        self.blocks = blocks
        self.teller = teller
        self.directory = site.web_root / job.token
        self.records = Records(site.root)
        self.record: Record | None = None
        self.work: Work | None = None

    async def whole(self) -> None:
        """All of it. Raises what stops it."""
        site = self.site
        told: list[str] = []  # below the first line, which is the address's: aogremote's log has both streams
        sweeping = asyncio.ensure_future(sweep(self.records, self.cluster, site.web_root, told.append, SWEEP_SECONDS))
        sweeping.add_done_callback(lambda done: done.cancelled() or done.exception())  # it is asked for below, or late
        try:
            await _soon(sweeping)
            async with slot(site.root, site.slots, complain, site.command):
                self.record = self.records.create(self.job, self.directory)
                served.make(site.web_root, self.job.token)
                self.teller.keep(self.directory / served.LOG)
                self.teller.say(words.accessible(self.job.url(site.url)))
                for line in told:
                    complain(line)
                async with self.records.mous(self.job.mous, self._wait_for_another):
                    await self._stage(self.record, sweeping)
        finally:
            sweeping.cancel()  # not waited for: nothing may come between the completion block and the end

    def _wait_for_another(self) -> None:
        self.teller.say(words.waiting(str(self.job.mous)))

    async def _stage(self, record: Record, sweeping: asyncio.Future[None]) -> None:
        old = choice.is_old(self.job.project, self.site.rhel5_before)
        work = await self._place(record, old=old)
        taken, left_out = await self._blocks()
        sums = await reusing.find(self.site.web_root, self.directory, taken, self.teller.say)
        if sums is not None:
            self.teller.say(words.REUSING)
            self.teller.say(words.COPYING)
            await reusing.link(self.directory, self.teller.pass_on)
        else:
            self.teller.say(words.REGENERATING)
            sums = await self._generate(work, taken, old=old)
        self.teller.say(words.DELETING_LOGS)
        served.tidy(self.directory, sums)
        await self._settle(sums, left_out)
        await self._remove(record, work)
        await _soon(sweeping)
        await self._publish()
        # it has completed, and has told so: whatever happens now, it has not failed
        try:
            if self.work is None:
                record.done()
        except (AogError, OSError) as error:
            complain(f"the run's record stays until the next stagecalms: {error}")
        record.close()

    async def _place(self, record: Record, *, old: bool) -> Work:
        """A node, and a working directory there; both are told."""
        say = self.teller.say
        say(words.LOOKING)
        wanted = self.site.workdir / f"WORK{10_000 + secrets.randbelow(90_000)}"
        record.intend(wanted)
        work = await self.cluster.place(wanted, self.job.token, old=old, tell=say, making=record.making)
        if work is None:
            raise NothingToDo("no cluster node could be taken")
        self.work = work
        record.placed(work)
        for line in words.chosen(work.node, self.site.node_user, work.directory):
            say(line)
        if old:
            say(words.RHEL5)
        return work

    async def _blocks(self) -> tuple[Sequence[Block], Sequence[Block]]:
        """Those to calibrate and those left out; both are told."""
        say = self.teller.say
        say(words.GENERATING)
        taken, left_out = choice.to_calibrate(await self.blocks.of(self.job.mous))
        for block in left_out:
            say(words.left_out(block.uid, block.qa0))
        if not taken:
            why = (
                "no execution block of it has passed QA0" if left_out else "the archive knows no execution block of it"
            )
            raise NothingToDo(f"MOUS {self.job.mous} cannot be calibrated: {why}")
        for block in taken:
            MousUid.parse(block.uid)  # it becomes a word of a command, and a file's name
        say(words.CHECKING)
        for block in taken:
            say(block.uid)
        return taken, left_out

    async def _generate(self, work: Work, taken: Sequence[Block], *, old: bool) -> Mapping[str, str]:
        """Calibrate, pack and copy; the tars' checksums by name."""
        site, teller = self.site, self.teller
        calibrator = site.rhel5_calibrator if old and site.rhel5_calibrator else site.calibrator
        generation = Generation(calibrator, self.job.project, self.job.mous, tuple(block.uid for block in taken))
        patience = Patience(work.node, site.patience, teller.say)
        packed = await generate(self.cluster, work, generation, patience, teller.pass_on)
        teller.say(words.COPYING)
        await copy(self.cluster, work, packed, self.directory, patience, teller.pass_on, teller.say)
        return {tar.name: tar.sha256 for tar in packed}

    async def _settle(self, sums: Mapping[str, str], left_out: Sequence[Block]) -> None:
        """All but the log, on the disk: the working directory has the only other copy, and goes next."""
        tars = [(name, (self.directory / name).stat().st_size) for name in sorted(sums)]
        served.write(self.directory, readme(self.job, tars, left_out, self.site.days, datetime.now(UTC)), sums)
        await in_thread(lambda: served.settle(self.directory))

    async def _remove(self, record: Record, work: Work) -> None:
        """Remove the working directory; all is copied, so that it does not matter much when it cannot be."""
        self.teller.say(words.DELETING_WORK)
        try:
            async with asyncio.timeout(REMOVE_SECONDS):
                await self.cluster.remove(work)
        except (AogError, OSError) as error:  # a time-out is an OSError without words
            self.teller.say(words.not_deleted(clean(str(error)) or f"not removed within {REMOVE_SECONDS:g} s"))
            return
        self.work = None
        with contextlib.suppress(AogError, OSError):  # who sweeps finds nothing there
            record.gone(work)

    async def _publish(self) -> None:
        self.teller.kept()
        await in_thread(lambda: served.settle(self.directory))
        # nothing below waits, so no signal comes between the served directory and its completion block
        served.publish(self.directory)
        for line in words.completed(self.job, self.job.url(self.site.url), self.site.days, datetime.now(UTC)):
            self.teller.say(line)

    async def give_up(self, why: str, hint: str = "") -> None:
        """End the worker, and tell the failure block. Raises nothing."""
        say = self.teller.say
        # a node's hint is the short reason for another sentence: mostly the end of this one
        for line in words.error(clean(why), [clean(hint)] if hint and hint.casefold() not in why.casefold() else ()):
            say(line)
        await self._end()
        if self.record is not None:
            try:
                self.record.fail()
            except (AogError, OSError) as error:
                complain(f"the next stagecalms will remove what is said to stay, for it cannot be noted: {error}")
            self.record.close()
        left = None if self.work is None else self.work.directory
        for line in words.failed(self.job, PurePosixPath(self.directory), left):
            say(line)
        with contextlib.suppress(AogError, OSError):
            self.teller.kept()

    async def _end(self) -> None:
        """End what works for this run, within END_SECONDS; what cannot be reached is left to the next sweep."""
        if self.work is None and (self.record is None or self.record.intended is None):
            return
        try:
            async with asyncio.timeout(END_SECONDS):
                if self.work is None:
                    await self.cluster.forget(self.job.token)
                else:
                    await self.cluster.end(self.work)
        except TimeoutError:
            complain(
                f"the cluster did not answer within {END_SECONDS:g} s: the next stagecalms ends what is left there"
            )
        except AogError as error:
            complain(f"what is left on the cluster is ended by the next stagecalms: {error}")
        except Exception as error:  # the failure block is owed whatever happens
            complain(f"what is left on the cluster is ended by the next stagecalms: {type(error).__name__}")


def complain(line: str) -> None:
    """A message that is no part of the transcript."""
    with contextlib.suppress(OSError):
        print(f"stagecalms: {clean(line)}", file=sys.stderr, flush=True)
