"""Two things done by hand, without a request: asking the archive, and taking in a mail that is pasted."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import TYPE_CHECKING, Any

from aogconsole import times
from aogconsole.errors import AogError
from aogconsole.ids import AccountId, MousUid, ProjectCode
from aogconsole.journal.store import Journal
from widgets.entitlement import VERDICTS
from widgets.forms import FieldsForm
from widgets.paste import PasteScreen

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
        self._app.say("The archive is being asked ...")
        document, sentence, _ = await asyncio.to_thread(self._verdict, given)
        told = VERDICTS.get(document["verdict"], document["verdict"])
        command = f"check {given['mous']} {given['account']}"
        self._app.record(command, f"{told}: {sentence}")
        self._app.say(
            f"{given['account']}, {given['mous']}: {told}. {sentence}", error=document["verdict"] == "unknown"
        )

    def _verdict(self, given: dict[str, str]) -> tuple[dict[str, Any], str, int]:
        """In a thread with a loop of its own: loading the driver would make the screen wait."""
        from aogconsole.check import verdict

        project = ProjectCode.parse(given["project"]) if given["project"] else None
        mous, account = MousUid.parse(given["mous"]), AccountId.parse(given["account"])
        asked = verdict(self._app.session.config, mous, account, project, date.fromisoformat(given["day"]))
        return asyncio.run(asked)

    async def paste(self) -> None:
        """Take in a mail that is pasted as text."""
        text = await self._app.push_screen_wait(PasteScreen())
        if not text:
            return
        try:
            told = await self._app.deeds.call(lambda journal: self._take(journal, text))
        except AogError as error:
            self._app.say(f"{error}. {error.hint}", error=True)
            return
        sentence = "; ".join(map(_taken, told))
        self._app.record("ingest -", sentence)
        self._app.say(sentence)
        self._app.look(follow=True)

    def _take(self, journal: Journal, text: str) -> list[dict[str, Any]]:
        from aogconsole.ingest import take
        from aogconsole.journal.history import Actor
        from aogconsole.requests import mbox

        raw = text.encode("utf-8", "surrogateescape")
        mails = [("pasted", mail) for mail in mbox.split(raw)]
        return asyncio.run(take(self._app.session.config, journal, Actor.current("console"), mails, times.now()))


def _taken(one: dict[str, Any]) -> str:
    became = f"request {one['request']}, {one['state']}" if one["request"] else "no request"
    return f"Mail {one['mail']}: {became}" + (f" ({one['why']})" if one["why"] else "")
