"""`config init / check / show / path`."""

from __future__ import annotations

import os
from collections.abc import Callable

import click

from aogconsole import config
from aogconsole.cli.common import Session, as_json, emit, say
from aogconsole.errors import ConfigError, StorageError


@click.group("config")
def config_command() -> None:
    """The configuration: make one, check it, show it, say where it is."""


@config_command.command("path")
@as_json
@click.pass_obj
def path_command(session: Session, *, json_: bool) -> None:
    """Say where the configuration is, or would be."""
    path = str((session.config_file or config.default_path()).absolute())
    if json_:
        emit({"path": path})
    else:
        say(path)


@config_command.command("init")
@click.pass_obj
def init_command(session: Session) -> None:
    """Write a configuration with every key, commented; never over one that is there."""
    path = session.config_file or config.default_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(config.template())
    except FileExistsError:
        raise ConfigError(f"{path} is there already", "edit it, or name another with --config") from None
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}", "check owner and mode") from None
    say(f"wrote {path}")


@config_command.command("check")
@as_json
@click.pass_obj
def check_command(session: Session, *, json_: bool) -> None:
    """Read the configuration and the secrets it refers to, and connect nowhere; exit 3 when something is wrong."""
    from aogconsole import reingestionsite, site

    loaded = session.config
    loaded.sound()
    for key in config.known_keys():
        if key.secret:
            loaded.secret(str(key))
    site.letter_rules(loaded)
    given = loaded.settings
    built: tuple[tuple[Callable[[config.Config], object], str], ...] = (
        (site.inbox, given.mail.inbox), (site.outbox, given.mail.outgoing), (site.archive, given.archive.dsn),
        (reingestionsite.metadata, given.metadata.dsn), (reingestionsite.broker, given.broker.url),
        (reingestionsite.ngas, given.ngas.url),
    )  # fmt: skip
    for made, wanted in built:
        if wanted:
            made(loaded)
    if json_:
        emit({"ok": True, "file": str(loaded.file) if loaded.file else None})
    else:
        say(f"{loaded.file or 'no file, all defaults'}: the configuration is right")


@config_command.command("show")
@as_json
@click.pass_obj
def show_command(session: Session, *, json_: bool) -> None:
    """Show every setting, and where its value came from. Secrets are references and stay so."""
    values = session.config.values
    if json_:
        emit([{"key": name, "value": _plain(value.value), "source": value.source} for name, value in values.items()])
    else:
        for name, value in values.items():
            say(f"{name} = {config.masked(config.to_toml(value.value))}    # {value.source}")
    session.config.sound()


def _plain(value: object) -> object:
    """As it is shown: a list for a tuple, and no password."""
    return list(value) if isinstance(value, tuple) else config.masked(value) if isinstance(value, str) else value
