"""A line that is cut, frozen or reset, a server that is killed: nothing started twice, no byte lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from aogconsole.errors import StagingError
from aogconsole.staging.remote import render_aogremote
from backends.ssh import SshStagingHost
from tests.contract.test_staging_host import GATED, new_token, open_gate, start, starts, until, whole_log
from tests.support.proxy import TcpProxy
from tests.support.sshd import StagingSite

TALKING = """#!/bin/bash
for ((i = 0; i < 40; i++)); do
    for ((j = 0; j < 100; j++)); do echo "line $i $j of the calibration, long enough to fill packets now and then"; done
    sleep 0.05
done
exit 3
"""


@pytest.fixture
async def proxy(staging_site: StagingSite) -> AsyncIterator[TcpProxy]:
    """A proxy before the staging host."""
    async with TcpProxy(staging_site.port) as made:
        yield made


@pytest.fixture(params=["forced", "plain"])
async def host(
    request: pytest.FixtureRequest, staging_site: StagingSite, proxy: TcpProxy
) -> AsyncIterator[SshStagingHost]:
    """An adapter behind the proxy that takes a silent line for broken after 0.6 s."""
    remote: Literal["forced", "plain"] = request.param
    settings = staging_site.settings(remote, proxy.port)
    adapter = SshStagingHost(replace(settings, keepalive_interval=0.2, connect_timeout=2))
    yield adapter
    await adapter.close()


async def followed(host: SshStagingHost, token: str, received: bytearray) -> None:
    """Follow the log into `received`, by offset, over as many breaks as there are, until the run is told whole."""
    while True:
        with contextlib.suppress(StagingError):
            async for piece in host.log(token, len(received)):
                received += piece
            run = await host.status(token)
            if run.state == "exited" and run.log_bytes == len(received):
                return


@pytest.mark.parametrize("harm", ["reset", "freeze", "half-close", "all"])
async def test_log_over_a_bad_line_is_whole(
    host: SshStagingHost, staging_site: StagingSite, proxy: TcpProxy, harm: str
) -> None:
    """Followed over breaks at random moments, the log equals the host's byte for byte."""
    staging_site.install(TALKING)
    chance = random.Random(harm)
    token = new_token()
    await start(host, token)
    received = bytearray()
    following = asyncio.create_task(followed(host, token, received))
    breaks = 0
    while not following.done():
        await asyncio.wait([following], timeout=chance.uniform(0.02, 0.4))
        if breaks < 8:
            breaks += 1
            match chance.choice(["reset", "freeze", "half-close"]) if harm == "all" else harm:
                case "reset":
                    proxy.reset()
                case "half-close":
                    proxy.half_close()
                case "freeze":
                    connected = proxy.connected
                    proxy.freeze()
                    while proxy.connected == connected and not following.done():
                        await asyncio.sleep(0.01)
                    proxy.reset()
    await following
    assert bytes(received) == staging_site.run_log(token)
    assert received.count(b"\n") == 4000
    assert proxy.connected > 2


@pytest.mark.parametrize("moment", ["at once", "before the answer", "after the answer"])
async def test_a_start_over_a_bad_line_runs_once(
    host: SshStagingHost, staging_site: StagingSite, proxy: TcpProxy, moment: str
) -> None:
    """The line breaks while a start is on its way: repeated until it is answered, it ran once."""
    staging_site.install(GATED)
    await host.hello()
    for number in range(1, 4):
        token = new_token()
        starting = asyncio.create_task(start(host, token, f"{number}"))
        match moment:
            case "at once":
                await asyncio.sleep(0)
            case "before the answer":
                while not (staging_site.root / token).exists():
                    await asyncio.sleep(0)
                proxy.down.clear()
                while len(starts(staging_site)) < number:
                    await asyncio.sleep(0.005)
            case "after the answer":
                await starting
        proxy.reset()
        with contextlib.suppress(StagingError):
            await starting
        while True:
            with contextlib.suppress(StagingError):
                answer = await start(host, token, f"{number}")
                break
        if moment != "at once":
            assert answer.outcome == "already"
        open_gate(staging_site, f"{number}")
        await until(host, token, "exited")
        assert len(starts(staging_site)) == number


async def test_a_frozen_line_is_noticed(host: SshStagingHost, staging_site: StagingSite, proxy: TcpProxy) -> None:
    """A log that is silent because the line is frozen raises soon; a run that is silent itself does not."""
    staging_site.install(GATED)
    token = new_token()
    await start(host, token)
    async with contextlib.aclosing(host.log(token, 0)) as log:
        assert await anext(log)
        waiting = asyncio.ensure_future(anext(log))
        _, still = await asyncio.wait([waiting], timeout=1.5)
        assert still, "a run may be silent for longer than the line"
        proxy.freeze()
        began = time.monotonic()
        with pytest.raises(StagingError):
            await waiting
        assert time.monotonic() - began < 5


async def test_callers_share_one_reconnection(host: SshStagingHost, proxy: TcpProxy) -> None:
    """After a break many ask at once: one new connection serves them all."""
    await host.hello()
    proxy.reset()
    while True:
        with contextlib.suppress(StagingError):
            await host.hello()
            break
    connected = proxy.connected
    assert connected == 2
    await asyncio.gather(*(host.hello() for _ in range(12)))
    assert proxy.connected == connected


async def test_first_callers_share_one_connection(host: SshStagingHost, proxy: TcpProxy) -> None:
    """Many ask a host nobody spoke to yet: one connection; the first may give up without harm to the others."""
    asking = [asyncio.create_task(host.hello()) for _ in range(12)]
    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.gather(*asking[1:])
    assert proxy.connected == 1


async def test_sshd_killed_while_a_run_goes_on(staging_site: StagingSite) -> None:
    """The server and its connections die and come back: the run went on, its log is whole."""
    staging_site.install(TALKING)
    host = SshStagingHost(staging_site.settings())
    token = new_token()
    await start(host, token)
    received = bytearray()
    following = asyncio.create_task(followed(host, token, received))
    while not received:
        await asyncio.sleep(0.01)
    staging_site.stop()
    with pytest.raises(StagingError):
        await host.status(token)
    staging_site.start()
    await following
    assert bytes(received) == staging_site.run_log(token)
    assert (await host.status(token)).exit_status == 3
    await host.close()


async def test_a_slow_reader_slows_the_sender(staging_site: StagingSite) -> None:
    """What nobody reads is not fetched: memory stays bounded, and the rest comes later, whole."""
    staging_site.install("#!/bin/bash\nhead -c 64000000 /dev/zero\n")
    async with TcpProxy(staging_site.port) as proxy:
        host = SshStagingHost(staging_site.settings("forced", proxy.port))
        token = new_token()
        await start(host, token)
        await until(host, token, "exited")
        log = host.log(token, 0)
        size = len(await anext(log))
        before = -1
        while before != proxy.sent_down:
            before = proxy.sent_down
            await asyncio.sleep(0.3)
        assert proxy.sent_down < 16_000_000
        async for piece in log:
            size += len(piece)
        assert size == 64_000_000
        await host.close()


def output_of(program: bytes, words: list[str], home: Path) -> bytes:
    """What a shell that reads this program says."""
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["sh", "-s", "--", *words], input=program, capture_output=True, env=environment, check=False)
    return done.stdout


def test_half_a_program_does_nothing(staging_site: StagingSite) -> None:
    """The plain way sends the program: cut anywhere but in its last line, nothing of it happens."""
    program = render_aogremote(command=staging_site.command).encode()
    chance = random.Random(1)
    cuts = [chance.randrange(len(program) - len('main "$@"\n')) for _ in range(40)]
    for cut in [*cuts, len(program) - len('main "$@"\n')]:
        words = ["start", new_token(), "2012.1.00357.S", "uid___A002_X788a57_X29", "15270"]
        assert output_of(program[:cut], words, staging_site.home) == b""
        assert not staging_site.root.exists()
    assert not starts(staging_site)


async def test_log_is_whole_at_full_speed(staging_site: StagingSite) -> None:
    """A run that writes as fast as it can, followed meanwhile, in two slots at once."""
    staging_site.install("#!/bin/bash\nseq -f 'line %.0f of many' 400000\n")
    host = SshStagingHost(staging_site.settings())
    tokens = [new_token(), new_token()]
    for token in tokens:
        await start(host, token)
    logs = await asyncio.gather(*(whole_log(host, token) for token in tokens))
    assert [log.count(b"\n") for log in logs] == [400_000, 400_000]
    assert logs[0] == staging_site.run_log(tokens[0])
    await host.close()
