"""`aogremote`: print the script for the staging host."""

from __future__ import annotations

import click

from aogconsole.cli.common import Session
from aogconsole.staging.remote import render_aogremote


@click.command("aogremote")
@click.option("--operator", default="", help="Name that stands in the run's folder.")
@click.option("--root", help="Folder of the runs; staging.root otherwise.")
@click.option("--slots", type=click.IntRange(min=1), help="Runs at a time; staging.slots otherwise.")
@click.option("--command", "command", help="The staging command; staging.command otherwise.")
@click.option("--web-root", help="Folder of staged data; stagecalms.web_root otherwise.")
@click.pass_obj
def aogremote_command(
    session: Session, operator: str, root: str | None, slots: int | None, command: str | None, web_root: str | None
) -> None:
    """Print the script that runs behind the forced command on the staging host."""
    staging, stagecalms = session.config.settings.staging, session.config.settings.stagecalms
    click.echo(
        render_aogremote(
            operator,
            root or staging.root,
            slots or staging.slots,
            command or staging.command,
            web_root or stagecalms.web_root,
        ),
        nl=False,
    )
