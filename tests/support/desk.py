"""A whole site for end-to-end tests: staging host, archive, Maildirs, a configuration, and the command itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.support.command import call
from tests.support.oracle import TestArchive
from tests.support.sshd import ACCOUNT, StagingSite

MOUS = "uid___A002_X788a57_X29"
"""Of the test archive: delivered, proprietary, PI pi1, delegee del1."""
PROJECT = "2012.1.00357.S"
URL = "http://almascience.eso.org/arcdistribution/preview/"

STAGECALMS = r"""#!/bin/bash
# Speaks as the seed's transcript does. The ticket's last two digits choose what it does.
echo $$ >> "$HOME/calls.$3"
hex=$(printf '%s' "$1$2$3" | md5sum | cut -c1-32)
url=http://almascience.eso.org/arcdistribution/preview/$hex
mkdir -p "$HOME/../web/$hex"
echo "The staging directory will be accessible at $url"
echo "Looking for cluster node with low load ..."
echo "DATAMACHINE chosen: arcp9"
echo "Working as arcproc@arcp9.hq.eso.org ..."
echo "(re-)creating directory /opsw/work/pipeproc/autopipeline/tmp/WORK11018"
echo "Now generating the calibrated MS(s) ..."
case $3 in
    *90) dir=/var/www/html/arcdistribution/preview/$hex
         echo "Failed. Please investigate  $dir and possibly remove incomplete data belonging to MOUS $2"
         dir=/opsw/work/pipeproc/autopipeline/tmp/WORK23486
         echo "The working directory $dir on the EU ARC cluster was not removed."; exit 1 ;;
    *91) echo "nothing to say"; exit 0 ;;
    *92) url=${url%?}x ;;
    *93) while [ ! -e "$HOME/go.$3" ]; do echo "still at it"; sleep 0.05; done ;;
    *94) for i in $(seq 1 40); do echo "line $i of $3"; sleep 0.02; done ;;
esac
echo
echo "Staging of calibrated MS(s) for $1 $2 helpdesk ticket #$3 completed"
echo "at $url"
today=$(date -u '+%a %b %d %H:%M:%S UTC %Y')
echo "Data will be deleted 28 days from ${today}unless you put a .donotremove into the directory."
"""

CONFIG = """
[journal]
path = "state/journal.db"
syslog = ""
[archive]
dsn = "{dsn}"
user = "{user}"
password = "env:AOG_TEST_ORACLE"
timeout = 5
[staging]
host = "127.0.0.1"
port = {port}
user = "{account}"
key = "{key}"
known_hosts = "{known_hosts}"
remote = "{remote}"
command = "{command}"
[stagecalms]
web_root = "{web_root}"
[mail]
inbox = "maildir:inbox"
outgoing = "maildir:outbox"
poll = 0.2
[policy]
stage = "{policy}"
send = "{policy}"
"""


def request_mail(
    mous: str = MOUS,
    project: str = PROJECT,
    account: str = "pi1",
    ticket: str = "15270",
    sender: str = "helper@eso.org",
    message_id: str = "",
) -> bytes:
    """A request mail, to the letter of the seed."""
    given = message_id or f"<{mous}.{account}.{ticket}@eso.org>"
    return (
        f"From: Helper <{sender}>\r\nTo: aog@eso.org\r\nCC: dpetry@eso.org\r\n"
        f"Subject: ALMA: REQUEST FOR CALIBRATED DATA MOUS {mous}\r\nMessage-ID: {given}\r\n\r\n"
        f"Dear AOG,\r\nplease create the calibrated MS for MOUS {mous}\r\nproject {project}\r\nfor user {account}\r\n"
        f"helpdesk ticket {ticket}\r\n\r\nThanks!\r\n"
    ).encode()


@dataclass
class Desk:
    """The site, and the command run as a subprocess on it."""

    folder: Path
    host: StagingSite
    archive: TestArchive
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    delivered: int = 0

    def configure(self, policy: str = "auto", remote: str = "forced", port: int = 0, **replaced: str) -> None:
        """Write the configuration; `replaced` are texts put in the place of others."""
        given = self.archive.settings()
        settings = self.host.settings(remote, port)  # type: ignore[arg-type]
        text = CONFIG.format(
            dsn=given.dsn, user=given.user, port=settings.port, account=ACCOUNT, key=settings.key,
            known_hosts=settings.known_hosts, remote=remote, command=settings.command, web_root=settings.web_root,
            policy=policy,
        )  # fmt: skip
        for old, new in replaced.items():
            assert old in text, old
            text = text.replace(old, new)
        self.config.write_text(text)

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "config.toml"

    @property
    def environment(self) -> dict[str, str]:
        """What the command sees."""
        return {**os.environ, "AOG_TEST_ORACLE": self.archive.settings().password, "HOME": str(self.folder)}

    def deliver(self, *mails: bytes) -> None:
        """Put mails into the inbox, in this order."""
        for part in ("tmp", "new", "cur"):
            (self.folder / "inbox" / part).mkdir(parents=True, exist_ok=True)
        for mail in mails:
            self.delivered += 1
            name = f"{time.time_ns()}.{self.delivered:06}.test"
            (self.folder / "inbox" / "tmp" / name).write_bytes(mail)
            (self.folder / "inbox" / "tmp" / name).rename(self.folder / "inbox" / "new" / name)

    def argv(self, *words: str) -> list[str]:
        """The command line of a verb."""
        return [sys.executable, "-m", "aogconsole", "--config", str(self.config), *words]

    def call(self, *words: str, expect: int | None = 0, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a verb to its end, in this process: an interpreter's start each time is most of what it costs."""
        with mock.patch.dict(os.environ, self.environment):
            done = call(self.config, *words, stdin=stdin)
        if expect is not None:
            assert done.code == expect, (words, done)
        return subprocess.CompletedProcess(words, done.code, done.out, done.err)

    def json(self, *words: str, expect: int | None = 0) -> Any:
        """The JSON document of a verb."""
        return json.loads(self.call(*words, "--json", expect=expect).stdout)

    def start_serve(self, *words: str) -> subprocess.Popen[bytes]:
        """Start the engine."""
        log = (self.folder / "serve.log").open("ab")
        server = subprocess.Popen(
            self.argv("serve", *words), stdout=log, stderr=log, env=self.environment, stdin=subprocess.DEVNULL
        )
        self.servers.append(server)
        return server

    def serve_until_idle(self) -> None:
        """Let the engine do all it can."""
        server = self.start_serve("--until-idle")
        assert server.wait(60) == 0, self.log()

    @contextlib.contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """The engine runs meanwhile, and ends with 0 on SIGTERM."""
        before = self.log().count("the engine runs") if (self.folder / "serve.log").exists() else 0
        server = self.start_serve()
        self.wait(lambda: self.log().count("the engine runs") > before)
        yield server
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0, self.log()

    def log(self) -> str:
        """What the engine said."""
        return (self.folder / "serve.log").read_text()

    def wait(self, true: Callable[[], Any], seconds: float = 40) -> Any:
        """Look until it is so."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = true()
            if found:
                return found
            time.sleep(0.05)
        pytest.fail(f"not so within {seconds} s; the engine said:\n{self.log()}\n{self.json('requests')}")

    def requests(self) -> dict[str, dict[str, Any]]:
        """All requests by ticket."""
        return {one["ticket"]: one for one in self.json("requests")}

    def filed(self) -> list[bytes]:
        """The letters in the outgoing Maildir."""
        return [path.read_bytes() for path in sorted((self.folder / "outbox" / "new").glob("*"))]

    def calls(self, ticket: str) -> int:
        """How often stagecalms was started for a ticket."""
        file = self.host.home / f"calls.{ticket}"
        return len(file.read_text().split()) if file.exists() else 0

    def close(self) -> None:
        """End the engines."""
        for server in self.servers:
            if server.poll() is None:
                server.kill()
                server.wait()


@pytest.fixture
def desk(tmp_path: Path, staging_site: StagingSite, archive: TestArchive) -> Iterator[Desk]:
    """A site with policies `auto` and the sample stagecalms."""
    staging_site.install(STAGECALMS)
    made = Desk(tmp_path, staging_site, archive)
    made.configure()
    made.deliver()
    yield made
    made.close()
