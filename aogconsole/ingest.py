"""Taking mails in by hand: from files, or pasted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from aogconsole import views
from aogconsole.config import Config
from aogconsole.journal.history import Actor
from aogconsole.journal.store import Journal


async def take(
    config: Config, journal: Journal, actor: Actor, mails: Sequence[tuple[str, bytes]], at: datetime
) -> list[dict[str, Any]]:
    """Take mails (each with the name of where it is from), received at a time; the contract's document of `ingest`."""
    from aogconsole.mailparser import MailParser
    from aogconsole.mailroom import file_source
    from aogconsole.site import mail_room

    room = mail_room(config, journal, actor)
    told = []
    async with MailParser() as parser:
        for file, raw in mails:
            taken = room.take(file_source(), at, raw, await parser.parse(raw))
            told.append({
                "file": file, "mail": str(taken.mail), "request": views.text_id(taken.request), "state": taken.state,
                "duplicate_of": views.text_id(taken.duplicate_of), "why": taken.why or None,
            })  # fmt: skip
    return told
