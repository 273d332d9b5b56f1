"""The command `aogconsole`: global options, lazily imported verbs."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import click

from aogconsole.cli.entry import hush, main
from aogconsole.cli.session import Session

__all__ = ["COMMANDS", "cli", "main", "run"]

COMMANDS = {
    "ingest": "mails", "mails": "mails", "compose": "mails",
    "requests": "requests", "show": "requests",
    "recheck": "verbs", "stage": "verbs", "refuse": "verbs", "hold": "verbs",
    "release": "verbs", "rerun": "verbs", "close": "verbs", "reopen": "verbs", "correct": "verbs", "note": "verbs",
    "claim": "verbs", "move": "verbs", "check": "check",
    "runs": "runs", "run": "runs", "log": "runs", "stop": "runs", "staged": "runs", "keep": "runs",
    "letters": "letters", "letter": "letters", "edit": "letters", "approve": "letters", "send": "letters",
    "resend": "letters", "discard": "letters",
    "history": "history", "handover": "history", "backup": "history",
    "serve": "engine", "pause": "engine", "resume": "engine", "web": "web",
    "loader": "loader", "runner": "runner",
    "reingestion": "reingestion",
    "workflow": "workflow", "broker": "broker",
    "doctor": "doctor", "config": "configuration", "aogremote": "remote", "demo": "demo", "completion": "completion",
}  # fmt: skip
"""Verb to module: a verb's module is imported when the verb is used (or its help is asked for)."""


class Verbs(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every verb, in the order of the contract."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One verb, imported now."""
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        found: click.Command = getattr(importlib.import_module(f"aogconsole.cli.{module}"), f"{cmd_name}_command")
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; a reader who has seen enough (`| head`) is no fault."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            hush()
            return 0


@click.group(cls=Verbs, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="The configuration file.")
@click.option("--read-only", is_flag=True, help="Look only: nothing can be changed.")
@click.option("--no-mouse", is_flag=True, help="The console leaves the mouse to the terminal.")
@click.version_option(package_name="aogconsole")
@click.pass_context
def cli(ctx: click.Context, config_file: Path | None, *, read_only: bool, no_mouse: bool) -> int:
    """The console of ALMA's archive operations group: calibrated data on request. Without a verb: the screen."""
    ctx.obj = Session(config_file, read_only=read_only)
    if ctx.invoked_subcommand is not None:
        return 0
    from aogconsole.cli.console import console

    return console(ctx.obj, mouse=not no_mouse)


def run() -> object:
    """Run the command line; its exit code, or anything else for 0. Raises AogError, OSError."""
    try:
        return cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
