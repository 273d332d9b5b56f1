"""As whom private servers run: `nobody` when the tests run as root, so that file modes hold; else as the caller."""

from __future__ import annotations

import functools
import os
import pwd
import subprocess
import sys
from pathlib import Path


def dropping(uid: int, gid: int) -> list[str]:
    """The words that begin a program as this account."""
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return []
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]


def account() -> tuple[int, int]:
    """User and group."""
    if os.geteuid() != 0:
        return os.getuid(), os.getgid()
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def passwd(name: str, uid: int, gid: int, about: str, home: Path) -> str:
    """The account's lines for libnss-wrapper. A server of root wants an account, and a folder, of its own beside it."""
    lines = f"{name}:x:{uid}:{gid}:{about}:{home}:/bin/bash\n"
    if uid == 0:
        apart = pwd.getpwnam("sshd")
        Path(apart.pw_dir).mkdir(mode=0o755, exist_ok=True)
        lines += f"sshd:x:{apart.pw_uid}:{apart.pw_gid}::{apart.pw_dir}:/usr/sbin/nologin\n"
    return lines


@functools.cache
def python_account() -> tuple[int, int]:
    """The same, if it may run this Python with our packages; one below root's home only root may run."""
    ids = account()
    powerless = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
    tried = subprocess.run(
        [*dropping(*ids), *powerless, "env", sys.executable, "-c", "import aogconsole.config, casacore.tables"],
        cwd="/", env={"PATH": os.environ["PATH"]}, capture_output=True, check=False,
    )  # fmt: skip
    return ids if tried.returncode == 0 else (os.getuid(), os.getgid())
