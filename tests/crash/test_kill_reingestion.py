"""Runners that are killed at random moments: each workflow is launched once per attempt, and no place is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from aogconsole.reingestion.item import ENDED, State
from backends.reingestion_ports import Limits
from tests.support.postgres import Database
from tests.support.rabbitmq import Vhost
from tests.support.runners import Runners

KILLS = 10
LIMIT = 4


@pytest.fixture
async def site(postgres: Database, rabbitmq: Vhost, tmp_path: Path) -> AsyncIterator[Runners]:
    """A site with a local launcher."""
    async with Runners(tmp_path, postgres.dsn, rabbitmq.url, rabbitmq.password, postgres.password) as running:
        yield running


async def test_runners_are_killed_at_random_moments(site: Runners) -> None:
    """Whatever they were doing, the next ones carry on."""
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    many = 3 * KILLS
    site.write(limit=LIMIT)
    site.workflow_does("sleep 0.03; case $2 in *[37]) [ -e ${0%/*}/again ] || what='not today';; esac")
    await site.add(many)
    for number in range(KILLS):
        before = len(site.told)
        process = site.start(f"r{number}", until_idle=False)
        await site.until(partial(_more, site, before))
        await asyncio.sleep(chance.uniform(0, 0.1))
        process.kill()
        await asyncio.to_thread(process.join)
    (site.folder / "again").touch()
    for name in ("x", "y"):
        site.start(name)
    await site.ended(*site.processes[-2:])
    rows = await site.rows()
    assert {row.state for row in rows} <= {State.DONE, State.DEAD, State.FAILED}, seed
    assert set(site.starts().values()) == {1}, seed
    assert len(site.starts()) == sum(row.attempt for row in rows), seed
    assert site.most_at_once()[""] <= LIMIT, seed
    assert not await site.table().active(), seed
    limits, now = Limits(LIMIT), datetime.now(UTC) + timedelta(seconds=1)
    assert await site.table().reserve("test", LIMIT, limits, now, timedelta(seconds=1)) == LIMIT


async def _more(site: Runners, before: int) -> bool:
    """Whether something was started or ended since, if anything is left."""
    return len(site.told) > before or all(row.state in ENDED for row in await site.rows())
