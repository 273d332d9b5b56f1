"""`completion`: the shell's side of completing verbs, options and request ids."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from aogconsole.errors import UsageError


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print a script for the shell: `eval "$(aogconsole completion bash)"`."""
    found = get_completion_class(shell)
    if found is None:
        raise UsageError(f"no completion for {shell}", "bash, zsh or fish")
    root = ctx.find_root().command
    click.echo(found(root, {}, "aogconsole", "_AOGCONSOLE_COMPLETE").source())
