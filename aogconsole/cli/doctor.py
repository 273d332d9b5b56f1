"""`doctor`: try every connection and account setting."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import click

from aogconsole.cli.common import Session, as_json, emit, say


@click.command("doctor")
@as_json
@click.pass_obj
def doctor_command(session: Session, *, json_: bool) -> int:
    """Try the journal, the archive, the staging host, mail and what re-ingestion needs; exit 1 on a fault."""
    from aogconsole.doctor import examine

    findings = asyncio.run(examine(session.config, session.actor))
    if json_:
        emit([asdict(one) for one in findings])
    else:
        for one in findings:
            say(
                f"{'ok   ' if one.ok else 'FAULT'} {one.check}: {one.detail.rstrip('.')}"
                + (f"; {one.hint}" if one.hint else "")
            )
    return 0 if all(one.ok for one in findings) else 1
