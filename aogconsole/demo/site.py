"""The embedded site: staging host, archive, mailboxes and a configuration, in one folder and on loopback.

All of it is real but small: an SSH server that runs aogremote, others that are cluster nodes, an Oracle Net server over
SQLite, two Maildirs. The servers live in threads of this process, so that the console's own loop stays free.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aogconsole.config import to_toml
from aogconsole.demo.sample import FULL, SampleDay
from aogconsole.errors import ConfigError, Conflict, StorageError, UsageError
from aogconsole.text import clean

if TYPE_CHECKING:
    from aogconsole.demo.archive import SqliteArchive
    from aogconsole.demo.nodes import DemoNodes
    from aogconsole.demo.reingestion import DemoReingestion
    from aogconsole.demo.staginghost import DemoStagingHost

MARK = ".aogconsole-demo"
"""File of a demo's folder: locked while the demo runs."""
BETWEEN = 15.0
"""Seconds, at speed 1, between the mails that arrive late."""
ARCHIVE_USER = "AOG_RO"
CONFIG = """\
# The embedded site of `aogconsole demo`; written anew at each start.
[journal]
path = "state/journal.db"
syslog = ""

[archive]
dsn = {dsn}
user = {user}
password = "file:archive.password"

[staging]
host = "127.0.0.1"
port = {port}
user = "arcdistribution"
key = "staging/client_ed25519"
known_hosts = "staging/known_hosts"

{stagecalms}
[mail]
inbox = "maildir:inbox"
outgoing = "maildir:outbox"
poll = 1

[policy]
stage = "ask"
send = "ask"
"""


class DemoSite:
    """The site, as long as the context lasts. Starting again in the same folder goes on where it was left."""

    def __init__(
        self, folder: Path | None = None, *, speed: float = 1.0, at_once: bool = False, reingestion: bool = False
    ) -> None:
        """`folder` None: a temporary one, removed at the end. `speed`: 1 is the pace of a demonstration.

        `at_once`: all mails are there from the start; else some arrive while the operator is at work.
        `reingestion`: with loader, runner, workflows and an NGAS.
        """
        self._wanted = folder
        self._speed = speed
        self._at_once = at_once
        self._reingesting = reingestion
        self.reingestion: DemoReingestion | None = None
        """None without it, also when the folder's day has none."""
        self._ends = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Raises UsageError (the folder), Conflict (a demo runs in it), ConfigError (a server cannot be started).

        StorageError: there is no room for it.
        """
        with _written(self._wanted or Path(tempfile.gettempdir())), contextlib.ExitStack() as ends:
            self.folder = self._kept(self._wanted) if self._wanted else ends.enter_context(_temporary())
            self.fresh = not (self.folder / "state").exists()
            """Whether nobody was here before."""
            ends.enter_context(_locked(self.folder / MARK))
            self._furnish()
            archive = ends.enter_context(self._archive())
            nodes = self._nodes()
            host = self._staging_host(nodes)
            with _listening():
                ends.enter_context(nodes)
            if self._wanted is None:
                ends.callback(nodes.end_workers)
                ends.callback(host.stop_runs)
            with _listening():
                ends.enter_context(host)
                self.reingestion = self._reingestion(archive)
            if self.reingestion:
                ends.enter_context(self.reingestion)
            self._configure(archive, host, nodes)
            if self.reingestion:
                self.reingestion.begin(self.config)
            ends.enter_context(self._post())
            self._ends = ends.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()

    @property
    def config(self) -> Path:
        """The configuration: any number of consoles may work with it."""
        return self.folder / "config.toml"

    def _kept(self, folder: Path) -> Path:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()) and not (folder / MARK).exists():
                raise UsageError(f"{folder} holds other files", "name a new folder, or one of an earlier demo")
            (folder / MARK).touch(0o600)
        except OSError as error:
            raise UsageError(f"{folder} cannot be used: {error.strerror}", "name a folder that you may write") from None
        return folder.resolve()

    def _furnish(self) -> None:
        """Make what does not change from start to start."""
        self.day = SampleDay(self.folder / "day")
        for box in ("inbox", "outbox"):
            for part in ("tmp", "new", "cur"):
                (self.folder / box / part).mkdir(parents=True, exist_ok=True)
        secret = self.folder / "archive.password"
        if not secret.exists():
            secret.touch(0o600)
            secret.write_text(secrets.token_hex(16) + "\n", encoding="ascii")
        (self.folder / "state").mkdir(mode=0o700, exist_ok=True)

    def _archive(self) -> SqliteArchive:
        try:
            from aogconsole.demo.archive import SqliteArchive
        except ImportError as error:
            raise ConfigError(
                f"the demo's archive needs seerdb, which is not installed ({error})",
                "in a clone `bash .ci/demo` installs it; else: pip install pycryptodome,"
                " then pip install --no-deps seerdb==3.3.0",
            ) from None
        password = (self.folder / "archive.password").read_text(encoding="ascii").strip()
        with _listening():
            return SqliteArchive(self.day.archive, user=ARCHIVE_USER, password=password)

    def _nodes(self) -> DemoNodes:
        from aogconsole.demo.nodes import DemoNodes

        return DemoNodes(self.folder, self.day.runs, self._speed)

    def _staging_host(self, nodes: DemoNodes) -> DemoStagingHost:
        from aogconsole.demo.staginghost import DemoStagingHost

        host = DemoStagingHost(self.folder / "staging", self.config, nodes.programs)
        self.day.stage_before(host.web_root)
        return host

    def _reingestion(self, archive: SqliteArchive) -> DemoReingestion | None:
        if not self._reingesting or self.day.reingestion is None:
            return None
        from aogconsole.demo.reingestion import LATER, DemoReingestion

        later = 0.0 if self._at_once else LATER
        kept = self._wanted is not None
        return DemoReingestion(self.day.reingestion, archive, self.folder, self._speed, later=later, kept=kept)

    def _configure(self, archive: SqliteArchive, host: DemoStagingHost, nodes: DemoNodes) -> None:
        fresh = self.config.with_suffix(".new")
        text = CONFIG.format(
            dsn=to_toml(archive.dsn), user=to_toml(ARCHIVE_USER), port=host.port,
            stagecalms=nodes.settings(host.web_root),
        )  # fmt: skip
        fresh.write_text(text + (self.reingestion.settings if self.reingestion else ""), encoding="utf-8")
        fresh.rename(self.config)

    @contextlib.contextmanager
    def _post(self) -> Iterator[None]:
        """Deliver the mails of the day that were not delivered yet; late ones by and by, in a thread."""
        inbox, ended = self.folder / "inbox", threading.Event()
        early = [one.mail for one in self.day.mails if self._at_once or not one.late]
        for mail in early:
            self.day.deliver(mail, inbox)

        def late() -> None:
            for one in self.day.mails:
                while one.mail not in early and not ended.wait(BETWEEN / self._speed):
                    with contextlib.suppress(OSError):  # no room: tried again, as a mail server does
                        self.day.deliver(one.mail, inbox)
                        break

        postman = threading.Thread(target=late, name="post", daemon=True)
        postman.start()
        try:
            yield
        finally:
            ended.set()
            postman.join()


@contextlib.contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Tell in one sentence what the disk says."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        told = error.args[0][0][-1] if isinstance(error, shutil.Error) else getattr(error, "strerror", None) or error
        raise StorageError(
            f"{folder} cannot be written: {clean(str(told))}",
            "check the disk, owner and mode; --dir puts the demo elsewhere",
        ) from None


@contextlib.contextmanager
def _listening() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise
        raise ConfigError(
            f"the demo cannot listen on 127.0.0.1: {error.strerror or error}",
            "it needs six free ports of the loopback",
        ) from None


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="aogconsole-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Conflict(
            f"a demo runs in {file.parent} already",
            f"a second console works beside it: aogconsole --config {file.parent / 'config.toml'}",
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)
