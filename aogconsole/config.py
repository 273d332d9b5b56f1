"""Reading the configuration: flags over environment over TOML over CAPO over defaults, and where each came from.

Contract: design section 6. An unknown key is an error that names it and the nearest known one; a wrong type
names what it should be. Secrets are references (`file:`, `env:`, `credential:`) and are read when used.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import re
import tomllib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aogconsole.errors import ConfigError
from aogconsole.settings import Settings, declared
from aogconsole.text import clean
from aogconsole.values import Value, value

ENVIRONMENT = "AOGCONSOLE_"
REFERENCES = ("env:", "file:", "credential:")
IN_ADDRESS = r"(://[^/@:\s]*:)\S+@|([?&](?:ssl)?password=)[^&\s]+"
"""In an address: `scheme://user:password@host`, or a parameter."""
HIDDEN = "***"
"""What is shown for a secret."""
MAY_HOLD_A_PASSWORD = ("metadata.dsn", "broker.url")
"""Addresses that sites copy from elsewhere as they are; shown masked. A reference to a secret is better, and wins."""
HUGE = 1e9
"""No number of ours is as large; in seconds it is 31 years."""


@value(frozen=True)
class Key(Value):
    """One setting of the contract: `section.name`."""

    section: str
    name: str
    type: Any
    default: Any
    doc: str
    path: bool
    secret: bool
    least: float | None
    most: float | None

    def __str__(self) -> str:
        return f"{self.section}.{self.name}"


@value(frozen=True)
class Given(Value):
    """A setting's value, and where it came from: `default`, `capo FILE`, a file, an environment variable, a flag."""

    value: Any
    source: str


@value(frozen=True)
class Config(Value):
    """The configuration as read. `folder` is what relative paths are relative to."""

    settings: Settings
    values: Mapping[str, Given]
    file: Path | None
    folder: Path
    secrets: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    """Those that CAPO holds; of all others there is a reference."""
    watched: tuple[Path, ...] = ()
    """The files it was read from, or would be."""
    capo_problem: ConfigError | None = None
    """What is wrong with CAPO. It stops re-ingestion only: the desk needs nothing from there."""

    @property
    def journal_path(self) -> Path:
        """The journal's file."""
        if self.settings.journal.path:
            return Path(self.settings.journal.path)
        state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
        return Path(state) / "aogconsole" / "journal.db"

    def secret(self, key: str) -> str:
        """The secret a setting refers to; empty when unset. Raises ConfigError."""
        if key in self.secrets:
            return self.secrets[key]
        return reveal(str(self.values[key].value), key, self.folder)

    def need(self, *keys: str) -> None:
        """Raise ConfigError unless each of these settings has a value."""
        if any(key.startswith(("metadata.", "broker.", "reingestion.")) for key in keys):
            self.sound()
        for key in keys:
            if self.values[key].value in ("", ()):
                raise ConfigError(f"{key} is not set", f"set it in {self.file or default_path()}")

    def sound(self) -> None:
        """Raise ConfigError when CAPO could not be read, or is wrong."""
        if self.capo_problem:
            raise self.capo_problem


def default_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the configuration is looked for when no flag says so."""
    if named := environ.get("AOGCONSOLE_CONFIG"):
        return Path(named)
    base = environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "aogconsole" / "config.toml"


def known_keys() -> Iterator[Key]:
    """Every setting there is, in the order of the contract."""
    yield from _keys_of(Settings, "")


def _keys_of(cls: type, section: str) -> Iterator[Key]:
    for item, hint in declared(cls):
        if dataclasses.is_dataclass(hint):
            yield from _keys_of(typing.cast("type", hint), f"{section}.{item.name}".lstrip("."))
        else:
            yield Key(section, item.name, hint, item.default, **item.metadata)


def load(
    file: Path | None = None, environ: Mapping[str, str] = os.environ, flags: Mapping[str, Any] | None = None
) -> Config:
    """Read the configuration. `file` None: the usual place, where it may be missing. Raises ConfigError."""
    path = file or default_path(environ)
    known = {str(key): key for key in known_keys()}
    folder = path.parent.absolute()
    document = _read(path)
    if document is None and (file is not None or environ.get("AOGCONSOLE_CONFIG")):
        raise ConfigError(
            f"there is no configuration file {path}", "make one with `aogconsole config init`, or name another"
        )
    values = {name: Given(key.default, "default") for name, key in known.items()}
    for name, raw in _flatten(document or {}, known):
        values[name] = Given(_convert(known[name], raw, str(path)), str(path))
    for variable, raw in environ.items():
        name = variable.removeprefix(ENVIRONMENT).lower().replace("__", ".")
        if variable.startswith(ENVIRONMENT) and "__" in variable:
            _known(name, known, variable)
            values[name] = Given(
                _convert(known[name], _from_text(known[name], raw, variable), variable), f"environment {variable}"
            )
    for name, raw in (flags or {}).items():
        values[name] = Given(_convert(known[name], raw, "flag"), "flag")
    for name, key in known.items():
        if key.path and values[name].value:
            values[name] = dataclasses.replace(values[name], value=str(located(values[name].value, name, folder)))
    secrets, watched, problem = _from_capo(known, values, environ)
    settings = _build(Settings, "", values)
    _check(settings, path)
    return Config(settings, values, None if document is None else path, folder, secrets, (path, *watched), problem)


def reloaded(config: Config) -> Config:
    """The same configuration, read again. Raises ConfigError, for CAPO too."""
    again = load(config.file, flags={name: one.value for name, one in config.values.items() if one.source == "flag"})
    again.sound()
    return again


def _from_capo(
    known: Mapping[str, Key], values: dict[str, Given], environ: Mapping[str, str]
) -> tuple[dict[str, str], list[Path], ConfigError | None]:
    """Put in what CAPO says where nothing else does; gives the secrets, the files, and what is wrong with them."""
    profile, watched, made, secrets = str(values["reingestion.capo_profile"].value), [], {}, {}
    if not profile:
        return {}, [], None
    from aogconsole import capo

    try:
        watched = capo.files(profile, environ)
        for one in capo.given(profile, environ):
            if any(values[name].source != "default" for name in (one.setting, one.of)):
                continue
            if one.secret:
                secrets[one.setting] = one.text
                made[one.setting] = Given(HIDDEN, one.source)
            else:
                key = known[one.setting]
                made[one.setting] = Given(_convert(key, _from_text(key, one.text, one.where), one.where), one.source)
    except ConfigError as error:
        return {}, watched, error
    values |= made
    return secrets, watched, None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", "correct the line it names") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", "") or error
        raise ConfigError(f"{clean(str(path))} cannot be read: {why}", "make it a readable UTF-8 file") from None


def _flatten(document: Mapping[str, Any], known: Mapping[str, Key], prefix: str = "") -> Iterator[tuple[str, Any]]:
    sections = {key.section for key in known.values()}
    for name, raw in document.items():
        full = f"{prefix}{name}"
        if full in sections:
            if not isinstance(raw, dict):
                raise ConfigError(f"{full} is a section, not a setting", f"write [{full}], and its settings below")
            yield from _flatten(raw, known, f"{full}.")
        else:
            _known(full, known, "the configuration")
            yield full, raw


def _known(name: str, known: Mapping[str, Key], where: str) -> None:
    if name in known:
        return
    choices = [*known, *sorted({key.section for key in known.values()})]
    import difflib

    near = difflib.get_close_matches(name, choices, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else "`aogconsole config show` lists every key"
    raise ConfigError(f"{clean(where)} has an unknown key {clean(name)}", hint)


def _from_text(key: Key, raw: str, variable: str) -> Any:
    """An environment variable's text as TOML would have it; lists may also be comma separated."""
    if key.type in (str,) or typing.get_origin(key.type) is typing.Literal:
        return raw
    if typing.get_origin(key.type) is tuple and not raw.lstrip().startswith("["):
        return [part.strip() for part in raw.split(",") if part.strip()]
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        raise ConfigError(f"{variable} is '{clean(raw)}', not {_wanted(key)}", "write it as in the TOML file") from None


def _wanted(key: Key) -> str:
    if typing.get_origin(key.type) is typing.Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in typing.get_args(key.type))
    least = f", at least {key.least:g}" if key.least is not None else ""
    most = f", at most {key.most:g}" if key.most is not None else ""
    most = most or (f", below {HUGE:.0f}" if key.type is float else "")
    names = {str: "a text of printable characters", bool: "true or false", int: "a whole number", float: "a number"}
    return names.get(key.type, "a list of texts") + least + most


def _convert(key: Key, raw: Any, where: str) -> Any:
    good: Any = None
    if typing.get_origin(key.type) is typing.Literal:
        good = raw if raw in typing.get_args(key.type) else None
    elif typing.get_origin(key.type) is tuple:
        good = tuple(raw) if isinstance(raw, list | tuple) and all(isinstance(one, str) for one in raw) else None
    elif key.type is float:
        good = float(raw) if type(raw) in (int, float) and abs(raw) < HUGE else None  # so no nan, no inf
    elif type(raw) is key.type:
        good = raw
    texts = (good,) if isinstance(good, str) else good if isinstance(good, tuple) else ()
    too_small = key.least is not None and good is not None and good < key.least
    too_large = key.most is not None and good is not None and good > key.most
    if good is None or too_small or too_large or not all(text.isprintable() for text in texts):
        shown = "something else" if key.secret else clean(repr(raw))  # it may be the secret itself
        raise ConfigError(f"{key} in {where} is {shown}, not {_wanted(key)}", f"{key}: {key.doc}")
    if key.secret and good and not good.startswith(REFERENCES):
        raise _no_reference(str(key))
    return good


def _no_reference(key: str) -> ConfigError:
    return ConfigError(
        f"{key} is not a reference to a secret", "write file:PATH, env:NAME or credential:NAME, never the secret itself"
    )


def _build(cls: type, section: str, values: Mapping[str, Given]) -> Any:
    made = {}
    for item, hint in declared(cls):
        full = f"{section}.{item.name}".lstrip(".")
        made[item.name] = (
            _build(typing.cast("type", hint), full, values) if dataclasses.is_dataclass(hint) else values[full].value
        )
    return cls(**made)


def _check(settings: Settings, path: Path) -> None:
    """What no type says."""
    if settings.policy.timezone != "UTC":  # time zones take a while to load
        _check_zone(settings.policy.timezone, path)
    if settings.mail.since:
        try:
            datetime.date.fromisoformat(settings.mail.since)
        except ValueError:
            raise ConfigError(f"mail.since in {path} is not a date", "write it as 2026-11-21") from None
    if settings.console.keys:
        from aogconsole.keymap import keymap

        keymap(settings.console.keys)
    for key, url, schemes in (
        ("mail.inbox", settings.mail.inbox, ("imap://", "imaps://", "maildir:")),
        ("mail.outgoing", settings.mail.outgoing, ("smtp://", "smtps://", "maildir:")),
        ("metadata.dsn", settings.metadata.dsn, ("postgresql://", "postgres://", "sqlite:")),
        ("broker.url", settings.broker.url, ("amqp://", "amqps://", "memory:")),
        ("ngas.url", settings.ngas.url, ("http://", "https://")),
    ):
        if url and not url.startswith(schemes):
            raise ConfigError(
                f"{key} in {path} is neither {', '.join(schemes[:-1])} nor {schemes[-1]}", "see `config init`"
            )
        if masked(url) != url and key not in MAY_HOLD_A_PASSWORD:
            hint = "it is asked without an account" if key == "ngas.url" else f"{key}_password says where it is kept"
            raise ConfigError(f"{key} in {path} holds a password", hint)


def _check_zone(zone: str, path: Path) -> None:
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        raise ConfigError(
            f"policy.timezone in {path} is '{clean(zone)}', which is no time zone", "such as UTC or Europe/Berlin"
        ) from None


def masked(url: str) -> str:
    """The address without the password that it may hold."""
    if "@" not in url and "password=" not in url:
        return url
    return re.sub(IN_ADDRESS, lambda found: f"{found[1]}{HIDDEN}@" if found[1] else f"{found[2]}{HIDDEN}", url)


def reveal(reference: str, key: str, folder: Path) -> str:
    """The secret behind `file:PATH` (0600), `env:NAME` or `credential:NAME` (systemd). Raises ConfigError."""
    if not reference:
        return ""
    kind, _, name = reference.partition(":")
    match kind:
        case "env":
            value = os.environ.get(name)
            if value is None:
                raise ConfigError(f"{key} refers to the environment variable {clean(name)}, which is not set", "set it")
            return value
        case "file":
            return _secret_file(located(name, key, folder), key)
        case "credential":
            store = os.environ.get("CREDENTIALS_DIRECTORY")
            if not store:
                raise ConfigError(
                    f"{key} refers to a systemd credential, but this is no systemd service with credentials",
                    "use LoadCredential=",
                )
            return _secret_file(Path(store) / name, key, systemd=True)
        case _:
            raise _no_reference(key)


def located(path: str, key: str, folder: Path) -> Path:
    """A path of the configuration: relative to its folder, `~` for a home. Raises ConfigError."""
    try:
        return folder / Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(f"{key} is {clean(path)}, but that account is unknown", "write the whole path") from None


def _secret_file(path: Path, key: str, systemd: bool = False) -> str:
    try:
        if not systemd and path.stat().st_mode & 0o077:
            raise ConfigError(f"{key} is in {path}, which others can read", f"chmod 600 {path}")
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = clean(str(getattr(error, "strerror", error)))
        raise ConfigError(f"{key} cannot be read from {path}: {why}", "make the file, with mode 600") from None


def template() -> str:
    """A configuration file with every key, its default and what it is for."""
    lines = ["# aogconsole's configuration. Paths are relative to this file's folder.", ""]
    section = ""
    for key in known_keys():
        if key.section != section:
            section = key.section
            lines += ["", f"[{section}]"]
        lines.append(f"# {key.doc}")
        lines.append(f"#{key.name} = {to_toml(key.default)}")
    return "\n".join(lines) + "\n"


def to_toml(value: Any) -> str:
    """A setting's value as TOML."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case tuple():
            return "[" + ", ".join(to_toml(one) for one in value) + "]"
        case _:
            return f"{value:g}" if isinstance(value, float) else str(value)
