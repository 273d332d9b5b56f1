"""`web`: the console in a browser."""

from __future__ import annotations

import sys

import click

from aogconsole.cli.common import Session
from aogconsole.errors import OutsideError, UsageError


@click.command("web")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Listen on this port.")
@click.pass_obj
def web_command(session: Session, *, port: int) -> None:
    """Show the console in a browser, on this machine only, at an address with a key. Needs the extra `web`."""
    try:
        from aogconsole.webserver import WebServer
    except ImportError as error:
        raise UsageError(f"the extra `web` is not installed ({error.name})", "pip install 'aogconsole[web]'") from None
    config = session.config.file
    words = [sys.executable, "-P", "-m", "aogconsole", *(["--config", str(config.absolute())] if config else [])]
    try:
        WebServer([*words, *(["--read-only"] if session.read_only else [])], port).serve()
    except OSError as error:
        raise OutsideError(f"port {port}: {error.strerror or error}", "choose another one with --port") from error
