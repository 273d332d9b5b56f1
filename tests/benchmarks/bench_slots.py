"""Both slots speaking 50,000 lines a second: is a line lost, and what does following cost?

    python -m tests.benchmarks.bench_slots [SECONDS] [LINES_A_SECOND]

Real runs on a private OpenSSH server, followed at the same time. Prints for each slot the lines that the host has and
those that are in the file, and the share of a core that this process took. Ends with 1 when a byte differs.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import tempfile
import time
from pathlib import Path

from aogconsole.ids import Ticket
from aogconsole.staging.follow import Follower
from aogconsole.staging.transcript import Transcript
from backends.ssh import SshStagingHost
from tests.benchmarks.bench_follow import JOB
from tests.support.sshd import StagingSite, _furnish

SPEAKER = """#!/usr/bin/env python3
import sys, time
seconds, rate = {seconds}, {rate}
line = "2019-07-17 17:09:18 INFO flagdata::: applying field J1924-2914 spw 0:4~123 SNR > 3.0 number %d\\n"
begun = time.monotonic()
for tick in range(seconds * 20):
    first = tick * rate // 20
    sys.stdout.write("".join(line % n for n in range(first, first + rate // 20)))
    sys.stdout.flush()
    time.sleep(max(0, begun + (tick + 1) / 20 - time.monotonic()))
"""


async def follow(host: SshStagingHost, site: StagingSite, ticket: str, folder: Path) -> tuple[bool, int, int]:
    """One slot: whether the file is the host's log to the byte, and the lines of both."""
    token = secrets.token_hex(16)
    await host.start(token, JOB[0], JOB[1], Ticket.parse(ticket))
    file = folder / ticket
    transcript = Transcript(JOB[0], JOB[1], Ticket.parse(ticket), ("http://almascience.eso.org/arcdistribution/",))
    await Follower(host, token, file, transcript, lambda _milestones, _size, _lines: None).follow()
    theirs = site.run_log(token)
    return file.read_bytes() == theirs, theirs.count(b"\n"), transcript.lines


async def main(seconds: int, rate: int) -> int:
    """Measure and print."""
    site = StagingSite(Path(tempfile.mkdtemp(prefix="aog-bench-")))
    _furnish(site, 2)
    site.install(SPEAKER.format(seconds=seconds, rate=rate))
    site.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            host = SshStagingHost(site.settings())
            begun, busy = time.perf_counter(), time.process_time()
            slots = await asyncio.gather(*(follow(host, site, ticket, Path(folder)) for ticket in ("1", "2")))
            share = (time.process_time() - busy) / (time.perf_counter() - begun)
            await host.close()
    finally:
        site.close()
    for name, (same, theirs, ours) in zip("AB", slots, strict=True):
        print(f"slot {name}: {theirs} lines on the host, {ours} here, {'the same' if same else 'NOT the same'}")
    print(f"{rate} lines a second in each slot for {seconds} s; following took {share:.0%} of a core")
    return 0 if all(same and theirs == ours for same, theirs, ours in slots) else 1


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:3]]
    sys.exit(asyncio.run(main(*(given + [10, 50_000][len(given) :]))))
