"""CAPO: NRAO's property files, as a source of settings below the configuration's own file.

`PROFILE.properties` in each folder of `CAPO_PATH`, with `~/.capo` behind them; what stands in a later file counts.
Keys are case-insensitive, lines that begin with `#`, `!` or `;` are comments. The broker's keys are the real ones;
those for the database, the loader and the runner are our own, named like them (none are public).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from aogconsole.errors import ConfigError
from aogconsole.text import clean

if TYPE_CHECKING:
    from aogconsole.config import Config

PATH = "/home/casa/capo:/home/ssa/capo"
"""Where `CAPO_PATH` is not set."""
LARGEST = 1 << 20
"""Bytes of a property file."""
QUIET = 0.5
"""Seconds that a changed file is left alone, for who still writes it."""
BROKER = "edu.nrao.archive.configuration.AmqpServer"
DATABASE = "edu.nrao.archive.configuration.MetadataDatabase"
OURS = "edu.nrao.archive.reingestion.ReingestionSettings"
NUMBERS = {
    "reingestion.interval": f"{OURS}.interval",
    "reingestion.execblock_overlap": f"{OURS}.execblockOverlap",
    "reingestion.calibration_overlap": f"{OURS}.calibrationOverlap",
    "reingestion.limit": f"{OURS}.limit",
    "reingestion.attempts": f"{OURS}.attempts",
    "reingestion.retry_delay": f"{OURS}.retryDelay",
    "reingestion.vlba_limit": f"{OURS}.vlbaLimit",
    "reingestion.vlba_per_project": f"{OURS}.vlbaPerProject",
}
"""Setting to CAPO key, where the value is taken as it is."""
ADDRESSES = {
    "broker.url": [f"{BROKER}.{name}" for name in ("hostname", "port", "username", "virtualHost")],
    "broker.password": [f"{BROKER}.password"],
    "metadata.dsn": [f"{DATABASE}.{name}" for name in ("jdbcUrl", "jdbcUsername")],
    "metadata.password": [f"{DATABASE}.jdbcPassword"],
}
"""Setting to the CAPO keys that it is put together from; `virtualHost` is our own, optional."""
AT_ONCE = frozenset(NUMBERS)
"""Settings that loader and runner take up without a restart."""
PASSED_ON = ("sslmode", "sslrootcert", "connect_timeout")
"""Parameters of a JDBC address that PostgreSQL's own client knows by the same name."""


@dataclass(frozen=True)
class Property:
    """A value, and the file that it stands in."""

    value: str
    file: Path


@dataclass(frozen=True)
class Given:
    """What CAPO says of one setting. With `of` the setting it belongs to: a password goes only where its address
    came from CAPO too."""

    setting: str
    text: str
    key: str
    files: tuple[Path, ...]
    of: str
    secret: bool = False

    @property
    def source(self) -> str:
        """Where it came from, for `config show`."""
        return "capo " + ", ".join(map(str, self.files))

    @property
    def where(self) -> str:
        """File and key, for errors."""
        return f"{self.files[-1]} ({self.key})"


def files(profile: str, environ: Mapping[str, str]) -> list[Path]:
    """The files of a profile, there or not, first to last. Raises ConfigError for what is no name."""
    if not profile.isprintable() or "/" in profile or profile.startswith("."):
        raise ConfigError(f"reingestion.capo_profile is '{clean(profile)}', which is no profile", "such as naasc-prod")
    folders = [one for one in (environ.get("CAPO_PATH") or PATH).split(":") if one]
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    found = [home / one[2:] if one.startswith("~/") else Path(one) for one in folders]
    return [folder / f"{profile}.properties" for folder in [*found, home / ".capo"]]


def read(profile: str, environ: Mapping[str, str]) -> dict[str, Property]:
    """All properties of a profile by their key in lower case. Raises ConfigError."""
    places = files(profile, environ)
    found: dict[str, Property] = {}
    there = False
    for file in places:
        text = _text(file)
        if text is not None:
            there = True
            found.update({key.strip().lower(): Property(value.strip(), file) for key, value in _pairs(text, file)})
    if not there:
        tried = ", ".join(str(file.parent) for file in places)
        raise ConfigError(
            f"there is no CAPO profile {profile}: {profile}.properties is in none of {tried}",
            "correct reingestion.capo_profile, or CAPO_PATH",
        )
    return found


def _text(file: Path) -> str | None:
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"the CAPO file {file} cannot be read: {error.strerror}", "check owner and mode") from None
    if len(data) > LARGEST:
        raise ConfigError(f"the CAPO file {file} is larger than {LARGEST} bytes", "is it a property file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")  # as Java writes them


def _pairs(text: str, file: Path) -> list[tuple[str, str]]:
    import javaproperties

    try:
        return javaproperties.loads("\n".join(_without_comments(text.splitlines())), object_pairs_hook=list)
    except ValueError as error:
        raise ConfigError(f"the CAPO file {file} is no property file: {clean(str(error))}", "correct it") from None


def _without_comments(lines: Iterable[str]) -> Iterator[str]:
    """Java's format has no `;` comments; a line that goes on another is not one."""
    goes_on = False
    for line in lines:
        if not goes_on and line.lstrip().startswith((";", "#", "!")):
            continue
        goes_on = (len(line) - len(line.rstrip("\\"))) % 2 == 1
        yield line


def given(profile: str, environ: Mapping[str, str]) -> list[Given]:
    """What a profile says of our settings; what is not there, or empty, is left out. Raises ConfigError."""
    found = {key: one for key, one in read(profile, environ).items() if one.value}
    told = []
    for setting, key in NUMBERS.items():
        if one := found.get(key.lower()):
            told.append(Given(setting, one.value, key, (one.file,), setting))
    for setting, keys in ADDRESSES.items():
        parts = [found.get(key.lower()) for key in keys]
        if not parts[0]:
            continue  # without a host, or a password, the rest says nothing
        at = tuple(dict.fromkeys(one.file for one in parts if one))
        words = [one.value if one else "" for one in parts]
        of = setting.replace("broker.password", "broker.url").replace("metadata.password", "metadata.dsn")
        text = words[0] if of != setting else _amqp(words, at) if setting == "broker.url" else _postgres(words, at)
        told.append(Given(setting, text, keys[0], at, of, secret=of != setting))
    return told


def _amqp(words: list[str], at: tuple[Path, ...]) -> str:
    host, port, user, vhost = words
    if not (port or "5672").isdecimal() or not 0 < int(port or "5672") < 65536:
        raise ConfigError(f"{BROKER}.port in {at[-1]} is '{clean(port)}', which is no port", "a number, as 5672")
    if not host.isascii() or not host.replace("-", "").replace(".", "").replace(":", "").isalnum():
        raise ConfigError(f"{BROKER}.hostname in {at[-1]} is '{clean(host)}', which is no host", "its name alone")
    account = f"{quote(user, safe='')}@" if user else ""
    shown = f"[{host}]" if ":" in host else host
    return f"amqp://{account}{shown}:{port or '5672'}/{quote(vhost or '/', safe='')}"


def _postgres(words: list[str], at: tuple[Path, ...]) -> str:
    url, user = words
    address = urlsplit(url.removeprefix("jdbc:"))
    if not url.startswith("jdbc:postgresql://") or "@" in address.netloc:
        raise ConfigError(
            f"{DATABASE}.jdbcUrl in {at[-1]} is no address that we know", "write jdbc:postgresql://HOST:PORT/DATABASE"
        )
    account = f"{quote(user, safe='')}@" if user else ""
    asked = dict(part.partition("=")[::2] for part in address.query.split("&") if part)
    kept = {name: asked[name] for name in PASSED_ON if name in asked}
    if asked.get("ssl", "false").lower() != "false":
        kept.setdefault("sslmode", "verify-full")  # what PostgreSQL's JDBC driver makes of ssl=true
    return f"postgresql://{account}{address.netloc}{address.path}{'?' if kept else ''}{urlencode(kept)}"


class Watcher:
    """The configuration as its files are now: read again when one of them has changed.

    Only `AT_ONCE` is taken up without a restart. Files that became wrong are told of once; the values before stay.
    """

    def __init__(self, config: Config, load: Callable[[], Config], every: float = 0.5) -> None:
        """`every`: seconds between two looks at the files, at the least."""
        self.config = config
        self._load, self._every = load, every
        self._again = time.monotonic() + every
        self._log = logging.getLogger("aogconsole")
        self._seen = self._look()

    def fresh(self) -> Config:
        """The configuration. May be asked for as often as one likes; a look costs a `stat` for each file."""
        if time.monotonic() < self._again:
            return self.config
        self._again = time.monotonic() + self._every
        now = self._look()
        changed = [one for one in now if one and one not in self._seen]
        if now == self._seen or any(abs(time.time() - written / 1e9) < QUIET for written, _, _ in changed):
            return self.config
        self._seen = now
        try:
            read_again = self._load()
        except ConfigError as error:
            self._log.warning("the configuration is wrong now, and stays as it was: %s", error)
            return self.config
        self._tell(read_again)
        self.config = read_again
        self._seen = now if self._look() == now else []
        return self.config

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(file) for file in self.config.watched]

    def _tell(self, now: Config) -> None:
        for key, value in now.values.items():
            if value.value != self.config.values[key].value or now.secrets.get(key) != self.config.secrets.get(key):
                how = "is used from now on" if key in AT_ONCE else "is used after a restart"
                self._log.info("%s has changed (%s) and %s", key, value.source, how)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
