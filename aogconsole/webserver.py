"""The console in a browser: textual-serve, made safe for a machine that others use too.

It listens on loopback only. A console acts under the account that started it, so a visitor must come by the address
with the key (as Jupyter does it); pages of elsewhere cannot reach it from the same browser; and the page fetches
nothing from elsewhere.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import shlex
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from textual_serve.server import Server

LOOPBACK = ("localhost", "127.0.0.1", "::1")
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self' ws://{host}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""The page's template names a font of another site: a browser may not fetch it."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebServer(Server):
    """Serves one command; each visit starts it anew."""

    def __init__(self, command: Sequence[str], port: int) -> None:
        super().__init__(shlex.join(command), host="127.0.0.1", port=port, title="AOG console")
        self._key = secrets.token_urlsafe(24)
        self._cookie = f"aogconsole-{port}"
        self._visits: set[asyncio.Task[Any]] = set()

    @property
    def address(self) -> str:
        """Where a browser on this machine finds it."""
        return f"http://localhost:{self.port}/?key={self._key}"

    def serve(self, debug: bool = False) -> None:
        """Serve until SIGTERM or Ctrl+C; tells the address when it can be reached. Raises OSError."""
        logging.basicConfig(level=logging.WARNING, format="%(message)s")  # textual-serve's shows values of variables

        def ready(_: str) -> None:
            print(f"The console is at {self.address}\nPress Ctrl+C to end.", flush=True)

        web.run_app(self._make_app(), host=self.host, port=self.port, print=ready)

    async def on_startup(self, app: web.Application) -> None:
        """Show no logo."""

    async def on_shutdown(self, app: web.Application) -> None:
        """Let every console end in good order."""
        for visit in self._visits:
            visit.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)

    async def handle_index(self, request: web.Request) -> web.StreamResponse:
        """The page. Through a tunnel it may have another port than here."""
        self.public_url = f"http://{request.host}"
        response: web.StreamResponse = await super().handle_index(request)
        response.headers["Content-Security-Policy"] = POLICY.format(host=request.host)
        response.headers["Referrer-Policy"] = "no-referrer"
        response.set_cookie(self._cookie, self._key, httponly=True, samesite="Strict")
        return response

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """A console, as long as its visitor stays."""
        visit = asyncio.current_task()
        assert visit is not None  # noqa: S101
        self._visits.add(visit)
        try:
            response: web.WebSocketResponse = await super().handle_websocket(request)
            return response
        finally:
            self._visits.discard(visit)

    async def _make_app(self) -> web.Application:
        app: web.Application = await super()._make_app()

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            wrong = self._wrong(request)
            if wrong:
                raise web.HTTPForbidden(text=wrong)
            return await handler(request)

        app.middlewares.append(guard)
        return app

    def _wrong(self, request: web.Request) -> str:
        """Why a request is refused; empty when it is not."""
        if urlsplit(f"//{request.host}").hostname not in LOOPBACK:  # a name of elsewhere that leads here
            return "Only as localhost; from another machine through `ssh -L`."
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"http://{request.host}":
            return "Another site's page may not do this."
        shown = request.query.get("key") or request.cookies.get(self._cookie, "")
        if not hmac.compare_digest(shown.encode(), self._key.encode()):
            return "Open the address that `aogconsole web` has printed."
        return ""
