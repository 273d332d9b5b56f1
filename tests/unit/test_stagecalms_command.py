"""The command `stagecalms`: its words, its exit status, and what it builds of its configuration."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pytest

from aogconsole import config
from aogconsole.errors import ConfigError
from aogconsole.stagecalms import command

JOB = ("2012.1.00357.S", "uid___A002_X788a57_X29", "15270")
SITE = """
[stagecalms]
calibrator = "/opt/calibrate"
web_root = "web"
nodes = ["127.0.0.2:2222"]
blocks = "blocks"
"""


def run(
    folder: Path, words: Sequence[str], text: str = SITE, redirect: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with this configuration."""
    (folder / "config.toml").write_text(text)
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirect}', "sh", sys.executable, "-m", "aogconsole.stagecalms.command", *words],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "AOGCONSOLE_CONFIG": str(folder / "config.toml")}
        | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "the project code is missing"),
        (JOB[:2], "the helpdesk ticket is missing"),
        ((*JOB, "more"), "unrecognized arguments: more"),
        (("2012.1.00357.S\x1b[2J", *JOB[1:]), "is not a project code"),
        ((JOB[0], "uid___A002_X788a57", JOB[2]), "is not a UID"),
        ((*JOB[:2], "-5"), "'-5' is not a helpdesk ticket number"),
        (("--dry-run",), "--dry-run belongs to --expire"),
        (("--expire", *JOB), "--expire takes no 2012.1.00357.S"),
        (("--expir",), "unrecognized arguments: --expir"),
        (("--config",), "expected one argument"),
    ],
)
def test_wrong_words(tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    """Exit status 2, one clear sentence and a hint, nothing on standard output, no traceback, nothing made."""
    done = run(tmp_path, words)
    assert (done.returncode, done.stdout) == (2, "")
    first, hint = done.stderr.splitlines()
    assert first.startswith("stagecalms: ")
    assert sentence in first
    assert hint.startswith("  ")
    assert "\x1b" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[stagecalms]\nweb_rot = 'x'", "unknown key stagecalms.web_rot"),
        ("[stagecalms", "is not valid TOML"),
        ("", "stagecalms.calibrator is not set"),
        (SITE.replace("127.0.0.2:2222", "-oProxyCommand=x"), "stagecalms.nodes"),
        (SITE + "workdir = 'tmp'", "no absolute path"),
        (SITE.replace('"web"', '"my web"'), "has a blank"),
        (SITE + "url = 'http://x/a b'", "stagecalms.url is http://x/a b, which has a blank"),
        (SITE + 'workdir = "/tmp/wo\'rk"', "cannot be the folder of working directories"),
        (SITE + "workdir = '/tmp/wörk'", "cannot be the folder of working directories"),
        (SITE + "workdir = '/tmp/../work'", "cannot be the folder of working directories"),
        (SITE + "rhel5_nodes = []", "stagecalms.rhel5_nodes names no node for projects before 2013"),
        (SITE.replace('blocks = "blocks"', ""), "archive.dsn is not set"),
        (SITE.replace('["127.0.0.2:2222"]', "[]"), "stagecalms.nodes is not set"),
        (SITE + "[staging]\nretention_days = 1000000000\n", "whole number, at least 1, at most 999999"),
    ],
)
def test_wrong_configuration(tmp_path: Path, text: str, sentence: str) -> None:
    """Exit status 3, one sentence, nothing made."""
    done = run(tmp_path, JOB, text)
    assert (done.returncode, done.stdout) == (3, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


@pytest.mark.parametrize(
    ("programs", "sentence"),
    [((), "has no ssh and no rsync"), (("ssh",), "has no rsync"), (("rsync",), "has no ssh")],
)
def test_programs_that_the_host_lacks(tmp_path: Path, programs: tuple[str, ...], sentence: str) -> None:
    """Exit status 3, before a node is asked for anything and before anything is made."""
    (tmp_path / "bin").mkdir()
    for name in programs:
        (tmp_path / "bin" / name).write_text("")
        (tmp_path / "bin" / name).chmod(0o755)
    done = run(tmp_path, JOB, PATH=str(tmp_path / "bin"))
    assert (done.returncode, done.stdout) == (3, "")
    assert f"the staging host {sentence} in this account's path" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "config.toml"]


def test_version_calibrator_and_help(tmp_path: Path) -> None:
    """What it prints of itself needs no configuration."""
    assert run(tmp_path, ["--version"], "broken").stdout.startswith("stagecalms 0.")
    assert run(tmp_path, ["--print-calibrator"], "broken").stdout.startswith("#!/bin/sh\n")
    assert run(tmp_path, ["--help"], "broken").stdout.startswith("usage: stagecalms PROJCODE")


def test_expire(tmp_path: Path) -> None:
    """What is over is told with `--dry-run`, and deleted without; a web root that is not there is exit status 3."""
    text = SITE + "[staging]\nretention_days = 5\n"
    assert run(tmp_path, ["--expire"], text).returncode == 3
    old, young = (tmp_path / "web" / (digit * 32) for digit in "ab")
    for path in (old, young):
        path.mkdir(parents=True)
    os.utime(old, (1e9, 1e9))
    for words, there in ((["--expire", "--dry-run"], True), (["--expire"], False)):
        done = run(tmp_path, words, text)
        assert done.returncode == 0
        told = "would delete" if there else "deleted"
        assert done.stdout.splitlines()[0].startswith(f"{told} {old.name}: ")
        assert old.is_dir() is there
        assert young.is_dir()


def test_expire_goes_on_when_nobody_hears(tmp_path: Path) -> None:
    """All that is over is deleted, whatever becomes of its line; the exit status tells that."""
    for digit in "abc":
        path = tmp_path / "web" / (digit * 32)
        path.mkdir(parents=True)
        os.utime(path, (1e9, 1e9))
    done = run(tmp_path, ["--expire"], redirect=">/dev/full")
    assert list((tmp_path / "web").iterdir()) == []
    told = "stagecalms: all was looked at, but the output could not be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, told)


@pytest.mark.parametrize("redirect", [">&-", "<&- >&- 2>&-", ">/dev/full"])
def test_without_streams(tmp_path: Path, redirect: str) -> None:
    """A stream that it was started without is no reason to stop: it fails for the web root, and ends."""
    done = run(tmp_path, JOB, redirect=redirect)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_told_to_stop_before_it_began(tmp_path: Path, number: signal.Signals) -> None:
    """Its words are right, so that the failure block is owed; nothing was made."""
    slow = tmp_path / "slow.toml"
    os.mkfifo(slow)
    argv = [sys.executable, "-m", "aogconsole.stagecalms.command", "--config", str(slow), *JOB]
    run = subprocess.Popen(
        argv, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with slow.open("w") as file:  # it is reading its configuration now
        run.send_signal(number)
        file.write(SITE)
    output, messages = run.communicate(timeout=60)
    first, last = output.decode().splitlines()
    assert (run.returncode, first, messages) == (1, "ERROR: it was told to stop", b"")
    assert last.startswith(f"Failed. Please investigate  {tmp_path}/web/")
    assert not (tmp_path / "web").exists()
    assert list(tmp_path.rglob("*.json")) == []


def test_no_program_gets_the_password(tmp_path: Path) -> None:
    """Whatever is in the environment of ssh; the rest of ours is."""
    (tmp_path / "web").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ssh").write_text(f"#!/bin/sh\nenv >>{tmp_path}/seen\nexit 255\n")
    (tmp_path / "bin" / "ssh").chmod(0o755)
    text = SITE.replace('blocks = "blocks"', "") + '[archive]\ndsn = "127.0.0.1:1/ALMA"\npassword = "env:ARCHIVE"\n'
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    ended = run(tmp_path, JOB, text, PATH=path, ARCHIVE="canary-1", OTHER="other-1")
    assert "ERROR: no cluster node could be taken" in ended.stdout, ended
    seen = (tmp_path / "seen").read_text()
    assert "OTHER=other-1" in seen
    assert "canary" not in seen


def built(folder: Path, text: str) -> config.Config:
    """This configuration, read."""
    (folder / "config.toml").write_text(text)
    return config.load(folder / "config.toml", environ={})


def test_what_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths, engine, and who knows the execution blocks, each as configured."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    given = built(tmp_path, SITE + '[staging]\nroot = "runs"\nslots = 3\n')
    site = command.site_of(given)
    assert (site.root, site.slots, site.days) == (tmp_path / "home" / "runs", 3, 28)
    assert (site.web_root, site.workdir) == (
        tmp_path / "web",
        PurePosixPath("/opsw/work/pipeproc/autopipeline/tmp"),
    )
    assert type(command.cluster_of(given)).__name__ == "SshCluster"
    assert type(command.blocks_of(given)).__name__ == "CommandBlocks"
    other = SITE.replace('blocks = "blocks"', 'engine = "slurm"\nsbatch = ["--partition=batch"]')
    given = built(tmp_path, other + '[archive]\ndsn = "127.0.0.1:1521/ALMA"\n[staging]\nroot = "/runs"\n')
    assert command.site_of(given).root == Path("/runs")
    assert type(command.cluster_of(given)).__name__ == "SlurmCluster"
    assert type(command.blocks_of(given)).__name__ == "OracleBlocks"


def test_wrong_nodes(tmp_path: Path) -> None:
    """A node that is none is an error of the configuration, whichever list it is in."""
    with pytest.raises(ConfigError, match="rhel5_nodes"):
        command.cluster_of(built(tmp_path, SITE + 'rhel5_nodes = ["a b"]'))
