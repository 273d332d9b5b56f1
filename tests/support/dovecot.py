"""A private IMAP server: real Dovecot on 127.0.0.1, a mailbox per test.

As root it runs as `nobody`, else as the caller. One server serves a whole test process; each test gets a user.
"""

from __future__ import annotations

import grp
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

DOVECOT = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
PASSWORD = 'pass"word\\1'
_CONFIG = """\
base_dir = {root}/base
state_dir = {root}/state
log_path = {root}/log
protocols = imap
listen = 127.0.0.1
login_greeting = {token}
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
mail_uid = {uid}
mail_gid = {gid}
first_valid_uid = 1
first_valid_gid = 1
last_valid_uid = 0
mail_location = maildir:{root}/mail/%u/Maildir
mail_home = {root}/mail/%u
maildir_very_dirty_syncs = no
ssl = yes
ssl_cert = <{root}/tls.pem
ssl_key = <{root}/tls.key
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
auth_username_chars =
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={root}/mail/%u
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    address = 127.0.0.1
    port = {port}
  }}
  inet_listener imaps {{
    address = 127.0.0.1
    port = {tls_port}
    ssl = yes
  }}
}}
service stats {{
  chroot =
}}
"""


@dataclass
class Dovecot:
    """The running server."""

    root: Path
    uid: int
    gid: int
    port: int
    tls_port: int
    process: subprocess.Popen[bytes]

    @property
    def ca(self) -> Path:
        """The authority that signed its certificate: itself."""
        return self.root / "tls.pem"

    def stop(self) -> None:
        """End it; the mailboxes stay."""
        _stop(self.process)

    def start(self) -> None:
        """Start it again, at the same ports."""
        process = _run(self.root, self.uid, self.gid, self.port)
        if process is None:
            raise RuntimeError(f"dovecot did not start again: {(self.root / 'log').read_text()}")
        self.process = process


@dataclass
class ImapMailbox:
    """One user's INBOX on the server."""

    server: Dovecot
    user: str
    password: str = PASSWORD

    @property
    def url(self) -> str:
        """Without TLS, on loopback."""
        return f"imap://{self.user.replace('@', '%40')}@127.0.0.1:{self.server.port}/INBOX"

    @property
    def tls_url(self) -> str:
        """With TLS from the first byte; the certificate is the server's own."""
        return f"imaps://{self.user.replace('@', '%40')}@127.0.0.1:{self.server.tls_port}/INBOX"

    @property
    def maildir(self) -> Path:
        """The Maildir behind the mailbox."""
        return self.server.root / "mail" / self.user / "Maildir"

    def deliver(self, raw: bytes, arrived: float | None = None) -> str:
        """Put a mail into the mailbox as a delivery agent does; `arrived`: seconds since 1970. Returns its name."""
        name = f"{time.time_ns()}.{secrets.token_hex(6)}.test"
        waiting = self.maildir / "tmp" / name
        waiting.write_bytes(raw)
        if arrived is not None:
            os.utime(waiting, (arrived, arrived))
        os.chown(waiting, self.server.uid, self.server.gid)
        waiting.rename(self.maildir / "new" / name)
        return name

    def renumber(self) -> None:
        """Give the mailbox another UIDVALIDITY, and its mails other UIDs, as a restore from backup does."""
        uids = self.maildir / "dovecot-uidlist"
        header, *mails = uids.read_text().splitlines()
        version, validity, *rest = header.split()
        numbers = {line.split()[0]: str(int(line.split()[0]) + 1000) for line in mails}
        rest = [f"N{int(word[1:]) + 1000}" if word.startswith("N") else word for word in rest]
        moved = [" ".join((numbers[line.split()[0]], *line.split()[1:])) for line in mails]
        lines = [" ".join((version, f"V{int(validity[1:]) + 1}", *rest)), *moved]
        uids.write_text("\n".join(lines) + "\n")
        for index in self.maildir.glob("dovecot.index*"):
            index.unlink()


@pytest.fixture(scope="session")
def dovecot() -> Iterator[Dovecot]:
    """The server of this test process."""
    if DOVECOT is None:
        pytest.skip("dovecot-imapd is not installed")
    root = Path(tempfile.mkdtemp(prefix="imap-"))
    server = None
    try:
        server = _started(root)
        yield server
    finally:
        if server:
            _stop(server.process)
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def imap_mailbox(dovecot: Dovecot) -> ImapMailbox:
    """A fresh, empty mailbox whose user has a name with an @."""
    mailbox = ImapMailbox(dovecot, f"aog-{secrets.token_hex(4)}@eso.org")
    home = mailbox.maildir.parent
    for folder in (home, mailbox.maildir, *(mailbox.maildir / name for name in ("new", "cur", "tmp"))):
        folder.mkdir(mode=0o700)
        os.chown(folder, dovecot.uid, dovecot.gid)
    return mailbox


def _started(root: Path) -> Dovecot:
    uid, gid = (os.getuid(), os.getgid()) if os.geteuid() else pwd.getpwnam("nobody")[2:4]
    for name in ("base", "state", "mail"):
        (root / name).mkdir(mode=0o755)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(root / "tls.key")]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(["openssl", "req", "-x509", *key, "-days", "2", *names, "-out", str(root / "tls.pem")],
                   check=True, capture_output=True)  # fmt: skip
    for path in (root, *root.iterdir()):
        os.chown(path, uid, gid)
    for _ in range(5):  # a free port may be taken before the server binds it
        server = _launched(root, uid, gid)
        if server:
            return server
    raise RuntimeError(f"dovecot did not start: {(root / 'log').read_text()}")


def _launched(root: Path, uid: int, gid: int) -> Dovecot | None:
    token = secrets.token_hex(8)
    port, tls_port = _free_ports()
    user = pwd.getpwuid(uid)
    values = {
        "root": root,
        "token": token,
        "uid": uid,
        "gid": gid,
        "port": port,
        "tls_port": tls_port,
        "password": PASSWORD,
    }
    config = root / "dovecot.conf"
    config.write_text(_CONFIG.format(**values, user=user.pw_name, group=grp.getgrgid(gid).gr_name))
    process = _run(root, uid, gid, port)
    return Dovecot(root, uid, gid, port, tls_port, process) if process else None


def _run(root: Path, uid: int, gid: int, port: int) -> subprocess.Popen[bytes] | None:
    """Start the server with the configuration that is there, and wait until it greets as that one says."""
    config = root / "dovecot.conf"
    token = config.read_text().partition("login_greeting = ")[2].partition("\n")[0]
    as_user = {"user": uid, "group": gid, "extra_groups": []} if os.geteuid() == 0 else {}
    process: subprocess.Popen[bytes] = subprocess.Popen(
        [str(DOVECOT), "-F", "-c", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8"},
        start_new_session=True,
        **as_user,  # type: ignore[call-overload]
    )
    end = time.monotonic() + 15
    while time.monotonic() < end and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as line:
                if token.encode() in line.recv(1000):
                    return process
        except OSError:
            pass
        time.sleep(0.02)
    _stop(process)
    return None


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
