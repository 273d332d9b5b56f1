"""The package as installed: whose packages these are, what it carries, how it starts and what that loads."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("aogconsole", "backends", "widgets")
HEAVY = {"asyncio", "asyncssh", "oracledb", "textual", "sqlite_utils", "imap_tools", "aiosmtplib", "platformdirs",
         "email.message", "cryptography"}  # fmt: skip
"""What a verb that only looks has no use for."""


def run(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """A program in an environment of its own, away from the sources."""
    environment = {**os.environ, "HOME": str(folder), "XDG_STATE_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    return subprocess.run(
        argv, capture_output=True, text=True, cwd=folder, env=environment, timeout=60, check=False
    )  # fmt: skip


def test_the_three_packages_are_this_projects(tmp_path: Path) -> None:
    """Started anywhere, `aogconsole`, `backends` and `widgets` are ours: they share no name with another project."""
    program = (
        f"import json, {', '.join(PACKAGES)}; print(json.dumps([one.__file__ for one in ({', '.join(PACKAGES)})]))"
    )
    files = json.loads(run(tmp_path, sys.executable, "-c", program).stdout)
    assert [Path(file) for file in files] == [ROOT / name / "__init__.py" for name in PACKAGES]
    owners = importlib.metadata.packages_distributions()
    assert {name: set(owners[name]) for name in PACKAGES} == {name: {"aogconsole"} for name in PACKAGES}


def test_both_ways_to_start_are_the_same(tmp_path: Path) -> None:
    """`python -m aogconsole` and the script `aogconsole` tell the version of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    script = Path(sys.executable).with_name("aogconsole")
    for argv in ([sys.executable, "-m", "aogconsole"], [str(script)]):
        done = run(tmp_path, *argv, "--version")
        assert (done.returncode, done.stdout.split()[-1]) == (0, project["version"])
        assert run(tmp_path, *argv, "nonsense").returncode == 2


def test_the_wheel_carries_every_file() -> None:
    """Whatever lies in a package is a module or named by package-data: SQL, letters, aogremote, the docs."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*"):
            name = file.relative_to(ROOT / package).as_posix()
            if file.is_file() and file.suffix != ".py" and "__pycache__" not in name:
                assert any(fnmatch(f"/{name}", f"/{pattern.replace('**/', '*')}") for pattern in data[package]), name


LOOKING = """
import json, sys
from aogconsole.cli.root import main
loaded = {}
for verb in json.loads(sys.argv[1]):
    sys.argv = ["aogconsole", verb]
    try:
        main()
    except SystemExit as ended:
        assert ended.code in (0, 2), verb
    loaded[verb] = sorted(sys.modules)
sys.stderr.write("\\n" + json.dumps(loaded))
"""


def test_looking_loads_no_library_of_a_server(tmp_path: Path) -> None:
    """A list costs no import of asyncio, SSH, Oracle or the migrations' library; `check`, which asks, is caught."""
    (tmp_path / "aogconsole").mkdir()
    (tmp_path / "aogconsole" / "config.toml").write_text("[journal]\nsyslog = ''\n")
    mail = tmp_path / "mail.eml"
    mail.write_text("From: a@eso.org\n\nhello\n")
    assert run(tmp_path, sys.executable, "-m", "aogconsole", "ingest", str(mail)).returncode == 0
    looking = ["requests", "mails", "runs", "letters", "staged", "history", "handover"]
    done = run(tmp_path, sys.executable, "-c", LOOKING, json.dumps([*looking, "check"]))
    assert done.returncode == 0, done.stderr
    assert "a@eso.org" in done.stdout
    loaded = {verb: HEAVY & set(modules) for verb, modules in json.loads(done.stderr.splitlines()[-1]).items()}
    assert {verb: loaded[verb] for verb in looking} == {verb: set() for verb in looking}
    assert "asyncio" in loaded["check"]


@pytest.mark.parametrize(("ci", "status"), [("true", 1), ("", 0)])
def test_in_ci_a_skip_is_a_failure(tmp_path: Path, ci: str, status: int) -> None:
    """A server that is missing must never pass for a working one; elsewhere a skip is a skip."""
    (tmp_path / "test_skips.py").write_text(
        "import pytest\n\n@pytest.fixture\ndef server():\n    pytest.skip('none')\n\ndef test_it(server):\n    pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "CI": ci}, capture_output=True, check=False)
    assert done.returncode == status, done.stdout
