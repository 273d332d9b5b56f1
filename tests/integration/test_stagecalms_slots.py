"""At most two at once on the host, whoever starts them: by hand, and by a real aogremote, at random moments."""

from __future__ import annotations

import asyncio
import random
import secrets
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from aogconsole.ids import MousUid, ProjectCode, Ticket
from backends.ssh import SshStagingHost
from tests.support.sshd import StagingSite

COMMAND = """#!{python}
import asyncio, os, sys, time
from pathlib import Path

sys.path[:0] = [{repository!r}]
from aogconsole.stagecalms import slots

{change}
slots.POLL = 0.05


def note(what):
    with open(Path.home() / "noted", "a") as file:
        file.write(f"{{what}} {{sys.argv[3]}} {{os.environ.get('AOG_TOKEN', 'hand')[:4]}}\\n")


async def main():
    async with slots.slot(Path.home() / ".aogconsole", 2, print, sys.argv[0]):
        note("begin")
        time.sleep(float(sys.argv[3]) / 1000)
        note("end")


note("up")
asyncio.run(main())
"""


def install(site: StagingSite, change: str = "") -> None:
    """A staging command that does nothing but to hold a slot for as many milliseconds as its ticket says."""
    repository = str(Path(__file__).parents[2])
    site.install(COMMAND.format(python=sys.executable, repository=repository, change=change))


def noted(site: StagingSite) -> list[list[str]]:
    """What the commands noted, in its order."""
    path = site.home / "noted"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def most_at_once(site: StagingSite) -> int:
    """How many held a slot at the same time."""
    inside = most = 0
    for what, *_ in noted(site):
        inside += {"begin": 1, "end": -1}.get(what, 0)
        most = max(most, inside)
    return most


async def day(site: StagingSite, host: SshStagingHost, seed: int, by_hand: int, by_aogremote: int) -> None:
    """Start them at random moments, and wait until all have ended."""
    chance = random.Random(seed)
    moments = [chance.random() * 1.5 for _ in range(by_hand + by_aogremote)]

    async def hand(moment: float, ticket: str) -> None:
        await asyncio.sleep(moment)
        site.as_account([site.command, "2012.1.00357.S", "uid___A002_X788a57_X29", ticket])

    async def remote(moment: float, ticket: str) -> None:
        await asyncio.sleep(moment)
        token = secrets.token_hex(16)
        words = ProjectCode("2012.1.00357.S"), MousUid("uid___A002_X788a57_X29"), Ticket(ticket)
        while (await host.start(token, *words)).outcome == "busy":
            await asyncio.sleep(0.05)

    tickets = [str(chance.randrange(50, 400)) for _ in moments]
    each = list(zip(moments, tickets, strict=True))
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for moment, ticket in each[:by_hand]:
            group.create_task(hand(moment, ticket))
        for moment, ticket in each[by_hand:]:
            group.create_task(remote(moment, ticket))
    async with asyncio.timeout(60):
        while Counter(what for what, *_ in noted(site))["end"] < len(each):
            await asyncio.sleep(0.05)


@pytest.fixture
def staging_site(new_staging_site: Callable[..., StagingSite]) -> StagingSite:
    """Its account may run this Python."""
    return new_staging_site(python=True)


async def test_never_more_than_two(staging_site: StagingSite) -> None:
    """Five by hand and five by aogremote: all run in the end, at most two at once, and the slots are free again."""
    install(staging_site)
    seed = secrets.randbelow(1_000_000)
    host = SshStagingHost(staging_site.settings("forced"))
    try:
        await day(staging_site, host, seed, by_hand=5, by_aogremote=5)
        assert most_at_once(staging_site) <= 2, f"with seed {seed}"
        assert Counter("hand" in line for line in noted(staging_site) if line[0] == "end") == {True: 5, False: 5}
        async with asyncio.timeout(20):
            while (await host.list()).free != 2:
                await asyncio.sleep(0.05)
    finally:
        await host.close()


async def test_who_is_killed_gives_the_slot_back(staging_site: StagingSite) -> None:
    """Two by hand hold both for long, and are counted once each; when one is killed, who waits goes on."""
    install(staging_site)
    host = SshStagingHost(staging_site.settings("forced"))
    words = ["2012.1.00357.S", "uid___A002_X788a57_X29"]
    try:
        first, _ = (staging_site.as_account([staging_site.command, *words, "60000"]) for _ in range(2))
        async with asyncio.timeout(20):
            while most_at_once(staging_site) < 2:
                await asyncio.sleep(0.02)
            assert (await host.list()).free == 0
            third = staging_site.as_account([staging_site.command, *words, "10"])
            while len(noted(staging_site)) < 5:  # it is up
                await asyncio.sleep(0.02)
            assert (await host.start("0" * 32, ProjectCode(words[0]), MousUid(words[1]), Ticket("1"))).outcome == "busy"
            assert third.poll() is None
            first.kill()
            first.wait()
            assert await asyncio.to_thread(third.wait) == 0
    finally:
        await host.close()


async def test_a_command_that_takes_no_slot_is_caught(staging_site: StagingSite) -> None:
    """This suite notices slots that are not locked."""
    install(staging_site, "slots.fcntl.flock = lambda *_: None")
    for _ in range(3):
        staging_site.as_account([staging_site.command, "2012.1.00357.S", "uid___A002_X788a57_X29", "60000"])
    async with asyncio.timeout(20):
        while most_at_once(staging_site) < 3:
            await asyncio.sleep(0.02)
