"""A run's output arrives in its file byte for byte, over real SSH, whatever happens to the line, the disk and us."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import resource
import secrets
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from aogconsole.errors import Conflict, StorageError
from aogconsole.ids import MousUid, ProjectCode, Ticket
from aogconsole.staging.follow import LONGEST_WAIT, Follower, _RunFile, _wait
from aogconsole.staging.transcript import Milestone, Succeeded, Transcript
from backends.ports import RemoteRun, StagingHost
from backends.ssh import SshStagingHost
from tests.support.proxy import TcpProxy
from tests.support.sshd import StagingSite

JOB = ProjectCode.parse("2012.1.00357.S"), MousUid.parse("uid___A002_X788a57_X29"), Ticket.parse("15270")
PREFIXES = ("http://almascience.eso.org/arcdistribution/",)
SUCCESS = (Path(__file__).parents[1] / "corpora" / "transcripts" / "success.txt").read_text()
HEAD, TAIL = SUCCESS.split("Copying", 1)[0], "Copying" + SUCCESS.split("Copying", 1)[1]
SHORT = f"#!/bin/bash\ncat <<'EOF'\n{SUCCESS}EOF\n"
LONG = f"""#!/bin/bash
cat <<'EOF'
{HEAD}EOF
for part in $(seq 30); do
    seq -f "2019-07-17 13:59:02 INFO part $part line %g of a long calibration" 1000
    printf 'half a line'; sleep 0.02; printf ', its end\\r\\n'
done
cat <<'EOF'
{TAIL}EOF
"""


class Ears:
    """What a follower told."""

    def __init__(self) -> None:
        self.milestones: tuple[Milestone, ...] = ()
        self.size = self.lines = 0
        self.times: list[float] = []
        self.line: list[str] = []
        self.moved = asyncio.Condition()

    def heard(self, milestones: tuple[Milestone, ...], size: int, lines: int) -> None:
        assert milestones[: len(self.milestones)] == self.milestones
        assert size >= self.size
        self.milestones, self.size, self.lines = milestones, size, lines
        self.times.append(time.monotonic())
        task = asyncio.get_running_loop().create_task(self._notify())
        task.add_done_callback(lambda done: done.result())

    async def _notify(self) -> None:
        async with self.moved:
            self.moved.notify_all()

    async def until(self, size: int) -> None:
        async with self.moved:
            await self.moved.wait_for(lambda: self.size >= size)


def new_transcript() -> Transcript:
    """Of the procedure's job."""
    return Transcript(*JOB, PREFIXES)


def follower(host: StagingHost, token: str, file: Path, ears: Ears, transcript: Transcript | None = None) -> Follower:
    """One that tells `ears`."""
    return Follower(host, token, file, transcript or new_transcript(), ears.heard, ears.line.append)


@pytest.fixture
async def host(staging_site: StagingSite) -> AsyncIterator[SshStagingHost]:
    """The staging host, reached directly."""
    adapter = SshStagingHost(staging_site.settings())
    yield adapter
    await adapter.close()


async def start(host: StagingHost) -> str:
    """Start a run; returns its token."""
    token = secrets.token_hex(16)
    assert (await host.start(token, *JOB)).outcome == "started"
    return token


async def test_a_whole_run(staging_site: StagingSite, host: SshStagingHost, tmp_path: Path) -> None:
    """The file is the host's log, private, and its milestones and counts are told; the outcome follows from them."""
    staging_site.install(SHORT)
    token, file, ears, transcript = await start(host), tmp_path / "1.log", Ears(), new_transcript()
    run = await follower(host, token, file, ears, transcript).follow()
    assert (run.state, run.exit_status) == ("exited", 0)
    assert file.read_bytes() == staging_site.run_log(token) == SUCCESS.encode()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (ears.size, ears.lines) == (len(SUCCESS), SUCCESS.count("\n"))
    assert ears.milestones == transcript.milestones
    assert isinstance(transcript.outcome(run.exit_status), Succeeded)
    assert ears.line == []


async def test_following_again_changes_nothing(staging_site: StagingSite, host: SshStagingHost, tmp_path: Path) -> None:
    """After the end another follower reads the file, finds it whole and has the same milestones."""
    staging_site.install(SHORT)
    token, file, first, second = await start(host), tmp_path / "1.log", Ears(), Ears()
    await follower(host, token, file, first).follow()
    written = file.stat().st_mtime_ns
    await follower(host, token, file, second).follow()
    assert second.milestones == first.milestones
    assert (second.size, second.lines) == (first.size, first.lines)
    assert file.stat().st_mtime_ns == written


class Doubling(SshStagingHost):
    """Broken on purpose: goes on one byte too early."""

    async def log(self, token: str, offset: int) -> AsyncGenerator[bytes, None]:
        async for piece in super().log(token, max(offset - 1, 0)):
            yield piece


async def cut_at_random(
    site: StagingSite, file: Path, seed: int, adapter: type[SshStagingHost] = SshStagingHost
) -> tuple[str, Ears, int]:
    """Follow a long run through a line that is cut at random bytes; returns token, what was told, number of cuts."""
    chosen, cuts = random.Random(seed), 0
    site.install(LONG)
    async with TcpProxy(site.port) as proxy:
        host = adapter(site.settings(port=proxy.port))

        async def cut() -> None:
            nonlocal cuts
            while True:
                end = proxy.sent_down + chosen.randrange(1_000, 400_000)
                async with proxy.moved:
                    await proxy.moved.wait_for(lambda end=end: proxy.sent_down >= end)  # type: ignore[misc]
                proxy.reset()
                cuts += 1

        token = await start(host)
        ears, cutter = Ears(), asyncio.create_task(cut())
        try:
            await follower(host, token, file, ears).follow()
        finally:
            cutter.cancel()
            await asyncio.gather(cutter, return_exceptions=True)
            await host.close()
    return token, ears, cuts


@pytest.mark.parametrize("seed", range(3))
async def test_cuts_at_random_bytes(staging_site: StagingSite, tmp_path: Path, seed: int) -> None:
    """However often the line breaks, no byte is lost or doubled, and each break is told with its reason."""
    file = tmp_path / "1.log"
    token, ears, cuts = await cut_at_random(staging_site, file, seed)
    assert cuts > 3
    assert file.read_bytes() == staging_site.run_log(token)
    assert ears.lines == len(file.read_bytes().splitlines())
    assert any(ears.line)
    assert ears.line[-1] == ""
    assert ears.milestones[-1].kind == "deletion"


async def test_the_harness_sees_a_doubled_byte(staging_site: StagingSite, tmp_path: Path) -> None:
    """A host that goes on one byte too early is caught: by the comparison, or by counts that never meet."""
    file = tmp_path / "1.log"
    with contextlib.suppress(StorageError):
        await cut_at_random(staging_site, file, 1, Doubling)
    (log,) = (path.read_bytes() for path in staging_site.root.glob("*/log"))
    assert file.read_bytes() != log


async def test_server_killed_and_back(staging_site: StagingSite, host: SshStagingHost, tmp_path: Path) -> None:
    """sshd killed in the middle, and started again: the follower is back by itself."""
    staging_site.install(LONG)
    token, file, ears = await start(host), tmp_path / "1.log", Ears()
    task = asyncio.create_task(follower(host, token, file, ears).follow())
    await ears.until(100_000)
    staging_site.stop()
    async with asyncio.timeout(30):
        async with ears.moved:
            await ears.moved.wait_for(lambda: any(ears.line))
        staging_site.start()
        await task
    assert file.read_bytes() == staging_site.run_log(token)


@pytest.mark.parametrize("seed", range(4))
async def test_cancelled_at_random(staging_site: StagingSite, host: SshStagingHost, tmp_path: Path, seed: int) -> None:
    """Cancelled at any point, twice too, the file is a prefix of the log and the next follower goes on there."""
    chosen = random.Random(seed)
    staging_site.install(LONG)
    token, file, ears = await start(host), tmp_path / "1.log", Ears()
    while True:
        task = asyncio.create_task(follower(host, token, file, Ears()).follow())
        done, _ = await asyncio.wait({task}, timeout=chosen.uniform(0, 0.2))
        if done:
            break
        task.cancel()
        if chosen.random() < 0.5:
            await asyncio.sleep(0)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert staging_site.run_log(token).startswith(file.read_bytes() if file.exists() else b"")
    await follower(host, token, file, ears).follow()
    assert file.read_bytes() == staging_site.run_log(token)


SCRIPT = """
import asyncio, sys
from pathlib import Path
from aogconsole.staging.follow import LONGEST_WAIT, Follower, _RunFile, _wait
from backends.ssh import SshSettings, SshStagingHost
from tests.integration.test_follow import new_transcript

async def main() -> None:
    host = SshStagingHost(eval(sys.argv[1]))
    heard = lambda milestones, size, lines: print(size, flush=True)
    await Follower(host, sys.argv[2], Path(sys.argv[3]), new_transcript(), heard).follow()

asyncio.run(main())
"""


async def test_killed_and_taken_over(staging_site: StagingSite, host: SshStagingHost, tmp_path: Path) -> None:
    """A process killed by SIGKILL leaves a right beginning; meanwhile nobody else may follow, afterwards anybody."""
    gate = staging_site.folder / "gate"
    staging_site.install(LONG.replace("done\n", f"while [ $part = 9 -a ! -e {gate} ]; do sleep 0.05; done; done\n"))
    token, file, ears = await start(host), tmp_path / "1.log", Ears()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRIPT, repr(staging_site.settings()), token, str(file),
        stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout
    while int(await process.stdout.readline()) < 50_000:
        pass
    with pytest.raises(Conflict):
        await follower(host, token, file, ears).follow()
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    assert 0 < file.stat().st_size <= len(staging_site.run_log(token))
    gate.touch()
    await follower(host, token, file, ears).follow()
    assert file.read_bytes() == staging_site.run_log(token)


@pytest.fixture
def file_limit() -> Iterator[Callable[[int], None]]:
    """Sets how large a file may become; lifted with the test."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_told_to_end_while_the_disk_fails(
    staging_site: StagingSite, host: SshStagingHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure that it then meets does not take the place of being told to end: it would be taken up again."""
    asked, answer = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def sick(descriptor: int) -> None:
        loop.call_soon_threadsafe(asked.set)
        answer.wait(30)
        raise OSError(errno.EIO, "Input/output error")

    staging_site.install(LONG)
    token = await start(host)
    monkeypatch.setattr(os, "fdatasync", sick)
    following = asyncio.create_task(follower(host, token, tmp_path / "1.log", Ears()).follow())
    await asked.wait()
    following.cancel()
    await asyncio.sleep(0)
    answer.set()
    await asyncio.wait({following})
    assert following.cancelled()


def test_a_host_may_stay_away_for_days() -> None:
    """The wait before the next try stays what it is."""
    assert all(0 < _wait(failures) <= LONGEST_WAIT for failures in (0, 1, 1024, 10**6))


async def test_disk_full_in_the_middle(
    staging_site: StagingSite, host: SshStagingHost, tmp_path: Path, file_limit: Callable[[int], None]
) -> None:
    """A full disk ends the following with a StorageError; with room again it goes on, nothing lost or doubled."""
    staging_site.install(LONG)
    token, file, ears = await start(host), tmp_path / "1.log", Ears()
    file_limit(300_001)
    with pytest.raises(StorageError) as caught:
        await follower(host, token, file, ears).follow()
    assert "staging host" in caught.value.hint
    file_limit(resource.RLIM_INFINITY)
    assert file.read_bytes() == staging_site.run_log(token)[:300_001]
    await follower(host, token, file, ears).follow()
    assert file.read_bytes() == staging_site.run_log(token)


@pytest.mark.parametrize("place", ["/dev/full", "no-such-folder/1.log", "."])
async def test_a_place_that_cannot_be_written(
    staging_site: StagingSite, host: SshStagingHost, tmp_path: Path, place: str
) -> None:
    """No room at all, no folder, a folder in the file's place: a StorageError with a hint, at once."""
    staging_site.install(SHORT)
    token = await start(host)
    with pytest.raises(StorageError) as caught:
        await follower(host, token, tmp_path / place, Ears()).follow()
    assert caught.value.hint


async def test_more_than_the_host_has(staging_site: StagingSite, host: SshStagingHost, tmp_path: Path) -> None:
    """A file that is longer than the host's log is no copy of it: told, and left alone."""
    staging_site.install(SHORT)
    token, file = await start(host), tmp_path / "1.log"
    file.write_text(SUCCESS * 2)
    with pytest.raises(StorageError, match="but the run's log on the staging host"):
        await follower(host, token, file, Ears()).follow()
    assert file.read_text() == SUCCESS * 2


async def test_a_run_that_never_was(host: SshStagingHost, tmp_path: Path) -> None:
    """A token the host does not know ends the following at once."""
    run = await follower(host, "0" * 32, tmp_path / "1.log", Ears()).follow()
    assert run.state == "absent"


async def test_a_callback_that_raises(staging_site: StagingSite, host: SshStagingHost, tmp_path: Path) -> None:
    """What a callback raises ends the following, and frees the file."""
    staging_site.install(LONG)
    token, file, ears = await start(host), tmp_path / "1.log", Ears()

    def refuse(_: tuple[Milestone, ...], size: int, __: int) -> None:
        if size:
            raise Conflict("somebody else acted first")

    with pytest.raises(Conflict, match="somebody else"):
        await Follower(host, token, file, new_transcript(), refuse).follow()
    await follower(host, token, file, ears).follow()
    assert file.read_bytes() == staging_site.run_log(token)


async def test_reports_are_few_and_steady(staging_site: StagingSite, host: SshStagingHost, tmp_path: Path) -> None:
    """About ten reports a second while much comes; about one a second in silence, so that silence can be judged."""
    staging_site.install("#!/bin/bash\nfor i in $(seq 60); do seq 200; sleep 0.02; done; sleep 2.5; echo end\n")
    token, ears = await start(host), Ears()
    begun = time.monotonic()
    await follower(host, token, tmp_path / "1.log", ears).follow()
    took = time.monotonic() - begun
    assert len(ears.times) <= 11 * took + 3
    gaps = [after - before for before, after in zip(ears.times, ears.times[1:], strict=False)]
    assert 0.8 < max(gaps) < 2.5
    assert len(ears.times) > took - 1


async def test_two_fast_runs_at_once(staging_site: StagingSite, host: SshStagingHost, tmp_path: Path) -> None:
    """Both slots at 50,000 lines a second and more: no line lost in either."""
    staging_site.install(
        '#!/bin/bash\nfor i in $(seq 100); do seq -f "$3 $i line %g of much output, as calibrations write" 1000;'
        " [ $((i % 5)) = 0 ] && sleep 0.1; done\n"
    )
    runs: dict[str, Ears] = {await start(host): Ears(), await start(host): Ears()}
    await asyncio.gather(*(follower(host, token, tmp_path / token, ears).follow() for token, ears in runs.items()))
    for token, ears in runs.items():
        assert (tmp_path / token).read_bytes() == staging_site.run_log(token)
        assert ears.lines == 100_000


async def test_lost_on_the_host(staging_site: StagingSite, host: SshStagingHost, tmp_path: Path) -> None:
    """A run killed on the host ends the following as `lost`, with all that it said."""
    staging_site.install("#!/bin/bash\necho begun\nexec sleep 600\n")
    token, file, ears = await start(host), tmp_path / "1.log", Ears()
    task: asyncio.Task[RemoteRun] = asyncio.create_task(follower(host, token, file, ears).follow())
    await ears.until(6)
    for pid in staging_site.processes():
        if pid not in staging_site.connections() and f"AOG_TOKEN={token}".encode() in _environment(pid):
            staging_site.kill(pid)
    run = await task
    assert run.state == "lost"
    assert file.read_bytes() == b"begun\n"


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def test_the_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    """The mode asked for is the mode got."""
    before = os.umask(0o077)
    try:
        file = _RunFile(tmp_path / "1.log", 0o660)
        file.open()
        file.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "1.log").stat().st_mode) == 0o660
