"""The console in a browser: the page and the bytes that it gets, and who is sent away."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.support.command import call
from tests.support.terminal import environment
from tests.terminal.test_engine_child import until

SERVER = "import sys; from aogconsole.webserver import WebServer; WebServer(sys.argv[2:], int(sys.argv[1])).serve()"
CONSOLE = [sys.executable, "-P", str(Path(__file__).with_name("small_console.py"))]


@dataclass
class Web:
    """A running server."""

    process: asyncio.subprocess.Process
    port: int
    key: str
    folder: Path

    @property
    def base(self) -> str:
        """Its address without the key."""
        return f"http://localhost:{self.port}"

    def ended(self) -> bool:
        """Whether the console of a visit has taken its leave."""
        return (self.folder / "ended").exists()


@contextlib.asynccontextmanager
async def serving(folder: Path, console: Sequence[str] = CONSOLE) -> AsyncIterator[Web]:
    """A server of a console; of the small one unless another is given."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = environment({"XDG_STATE_HOME": str(folder), "AOG_TEST_ENDED": str(folder / "ended")})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", SERVER, str(port), *console), stdout=asyncio.subprocess.PIPE, env=env
    )
    assert process.stdout
    try:
        said = (await process.stdout.readline()).decode()
        found = re.fullmatch(rf"The console is at http://localhost:{port}/\?key=(\S{{32}})\n", said)
        assert found, said
        yield Web(process, port, found[1], folder)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def seen(socket: aiohttp.ClientWebSocketResponse, what: bytes) -> bytes:
    """Take the terminal's bytes until some of them have come."""
    got = b""
    async with asyncio.timeout(20):
        while what not in got:
            got += await socket.receive_bytes()
    return got


async def test_a_visitor_with_the_key_gets_the_console(tmp_path: Path) -> None:
    """The page, its scripts and the terminal's bytes; keys reach the console, and it ends with its visitor."""
    async with serving(tmp_path) as web, aiohttp.ClientSession(web.base) as visitor:
        async with visitor.get("/", params={"key": web.key}) as page:
            assert page.status == 200
            text = await page.text()
            assert "connect-src 'self' ws://localhost" in page.headers["Content-Security-Policy"]
        assert f'"ws://localhost:{web.port}/ws"' in text
        assert web.key not in text
        async with visitor.get("/static/js/textual.js") as script:
            assert script.status == 200
        async with visitor.ws_connect("/ws?width=100&height=30", origin=web.base) as terminal:
            assert (await seen(terminal, b"READY")).startswith(b"\x1b[?1049h")
            await terminal.send_json(["stdin", "z"])
            await seen(terminal, b"No shell is waiting")
            assert not web.ended()
        await until(web.ended, "the console is left behind")


async def test_it_can_be_reached_through_a_tunnel_with_another_port(tmp_path: Path) -> None:
    """The page leads back to where it came from."""
    async with serving(tmp_path) as web, aiohttp.ClientSession(web.base) as visitor:
        page = await visitor.get("/", params={"key": web.key}, headers={"Host": "localhost:9999"})
        assert '"ws://localhost:9999/ws"' in await page.text()


@pytest.mark.parametrize("path", ["/", "/ws", "/static/js/textual.js", "/download/x"])
async def test_others_are_sent_away(tmp_path: Path, path: str) -> None:
    """No key, a wrong one, another site's page, a name of elsewhere that leads here: nothing is started or shown."""
    async with serving(tmp_path) as web:
        key = {"key": web.key}
        for given, headers in (
            ({}, {}), ({"key": "x"}, {}), ({"key": "é"}, {}), (key, {"Origin": "http://evil.example"}),
            (key, {"Origin": "http://localhost:1"}), (key, {"Host": "evil.example"}),
            (key, {"Host": f"evil.example:{web.port}", "Origin": f"http://evil.example:{web.port}"}),
        ):  # fmt: skip
            async with aiohttp.ClientSession(web.base) as visitor:
                answer = await visitor.get(path, params=given, headers=headers)
                assert answer.status == 403, (given, headers)
                assert "ws://" not in await answer.text()
    assert not web.ended()


async def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    """The machine's other addresses refuse."""
    async with serving(tmp_path) as web:
        ends = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if " 0A " in line}
        assert {end for end in ends if end.endswith(f":{web.port:04X}")} == {f"0100007F:{web.port:04X}"}
        assert f":{web.port:04X} " not in Path("/proc/net/tcp6").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
async def test_its_consoles_end_with_it(tmp_path: Path, number: int) -> None:
    """However the server ends, no console is left without a visitor, and it ends at once."""
    async with serving(tmp_path) as web, aiohttp.ClientSession(web.base) as visitor:
        terminal = await visitor.ws_connect(f"/ws?key={web.key}")
        await seen(terminal, b"READY")
        web.process.send_signal(number)
        async with asyncio.timeout(10):
            async for _ in terminal:  # a browser takes what comes, and answers the close
                pass
            assert await web.process.wait() == (-number if number == signal.SIGKILL else 0)
        await until(web.ended, "the console is left behind")


def test_the_command_tells_what_is_missing(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is taken; an installation without the extra."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = call(config, "web", "--port", str(port))
    assert (done.code, f"port {port}: " in done.err.decode()) == (4, True), done.err
    monkeypatch.setitem(sys.modules, "aogconsole.webserver", None)
    done = call(config, "web")
    assert done.code == 2
    assert "pip install 'aogconsole[web]'" in done.err.decode()
