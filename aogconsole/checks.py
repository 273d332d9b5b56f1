"""Done by hand, without a request: asking the archive, trying the connections, taking in a mail that is pasted."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from aogconsole import times
from aogconsole.errors import AogError
from aogconsole.journal.store import Journal
from aogconsole.text import clean, decode
from widgets.forms import FieldsForm
from widgets.pages import PageScreen
from widgets.paste import PasteScreen
from widgets.status import DOTS

if TYPE_CHECKING:
    from aogconsole.app import Console


class Checks:
    """The archive by hand, and the paste box."""

    def __init__(self, app: Console) -> None:
        self._app = app

    async def ask(self) -> None:
        """Ask the archive about a MOUS and an account."""
        line = self._app.selected
        today = times.day(times.now(), self._app.session.config.settings.policy.timezone)
        fields = {
            "mous": ("MOUS", line.mous if line else ""), "account": ("ALMA account", ""),
            "project": ("Project", ""), "day": ("Day", today),
        }  # fmt: skip
        given = await self._app.push_screen_wait(
            FieldsForm("Ask the archive", fields, why=False, required=("mous", "account", "day"))
        )
        if given is None:
            return
        words = ["check", given["mous"], given["account"], "--day", given["day"]]
        words += ["--project", given["project"]] if given["project"] else []
        self._app.say("The archive is being asked ...")
        status, told = await self._command(words)
        sentence = " ".join(told) or f"it ended with {status}"
        self._app.record(" ".join(words), sentence)
        self._app.say(f"{given['account']}, {given['mous']}: {sentence}", error=status > 1)

    async def examine(self) -> None:
        """How the connections are, and everything tried once more."""
        app = self._app
        known = [
            f"{DOTS[light.ok][0]} {light.name:10} {light.detail or 'answers'}  {light.since}"
            for light in app.board.lights
        ]
        engine = f"  engine     {app.board.engine or 'runs nowhere'}"
        lines = ["As the engine found them:", "", *known, engine, "", "Tried now:", ""]
        page = PageScreen("Connections", "\n".join([*lines, "everything is being tried ..."]))
        closed = app.push_screen(page, wait_for_dismiss=True)
        _, told = await self._command(["doctor"])
        if not closed.done():
            page.renew("\n".join([*lines, *told]))
        await closed

    async def _command(self, words: list[str]) -> tuple[int, list[str]]:
        """A verb of the command line in a process of its own: what it loads and waits for is no burden here."""
        config = self._app.session.config.file
        options = [*(["--config", str(config)] if config else []), *(["--read-only"] if self._app.read_only else [])]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "aogconsole", *options, *words,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            told, _ = await process.communicate()
        finally:  # kills it, if nobody waits for it any more; asyncio has no public way that works at the loop's end
            process._transport.close()  # type: ignore[attr-defined]
        return process.returncode or 0, [clean(line.strip()) for line in decode(told).splitlines()]

    async def paste(self) -> None:
        """Take in a mail that is pasted as text."""
        text: str | None = ""
        trouble = ""
        while text := await self._app.push_screen_wait(PasteScreen(text or "", trouble)):
            self._app.say("The mail is being taken in ...")
            try:
                told = await self._app.deeds.call(partial(self._take, text))
            except AogError as error:
                trouble = f"{error}. {error.hint}"
                self._app.say(trouble, error=True)
            else:
                sentence = "; ".join(map(_taken, told))
                self._app.record("ingest -", sentence)
                self._app.say(sentence)
                self._app.look(follow=True)
                return

    def _take(self, text: str, journal: Journal) -> list[dict[str, Any]]:
        from aogconsole.ingest import take
        from aogconsole.journal.history import Actor
        from aogconsole.requests import mbox

        raw = text.encode("utf-8", "surrogateescape")
        mails = [("pasted", mail) for mail in mbox.split(raw)]
        return asyncio.run(take(self._app.session.config, journal, Actor.current("console"), mails, times.now()))


def _taken(one: dict[str, Any]) -> str:
    became = f"request {one['request']}, {one['state']}" if one["request"] else "no request"
    return f"Mail {one['mail']}: {became}" + (f" ({one['why']})" if one["why"] else "")
