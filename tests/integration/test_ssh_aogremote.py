"""aogremote itself, run by the shells a staging host may have."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from aogconsole.staging.remote import render_aogremote

TOKEN = "0123456789abcdef0123456789abcdef"
START = f"start {TOKEN} 2012.1.00357.S uid___A002_X788a57_X29 15270"
SHELLS = {"dash": "dash", "bash": "bash --posix"}

RUNS = [
    ["stagecalms.sh", "P", "M", "1"],
    ["/home/arc/bin/stagecalms.sh"],
    ["sh", "stagecalms.sh"],
    ["-bash", "stagecalms.sh"],
    ["/bin/bash", "-e", "/opt/stagecalms.sh", "-c"],
    ["bash", "-euo", "pipefail", "stagecalms.sh"],
    ["bash", "+o", "history", "--rcfile", "x", "stagecalms.sh"],
    ["bash", "--", "stagecalms.sh"],
    ["/usr/bin/python3.11", "-u", "-W", "ignore", "/venv/bin/stagecalms.sh"],
    ["perl", "-w", "-I", "lib", "-MFile::Temp", "stagecalms.sh"],
    ["tcsh", "-f", "stagecalms.sh"],
]
DOES_NOT_RUN = [
    ["vi", "stagecalms.sh"],
    ["tail", "-f", "stagecalms.sh"],
    ["bash", "-c", "stagecalms.sh P M 1"],
    ["bash", "-lc", "x", "stagecalms.sh"],
    ["sh", "-s", "stagecalms.sh"],
    ["bash", "other.sh", "stagecalms.sh"],
    ["bash", "--rcfile", "stagecalms.sh"],
    ["bash", "mystagecalms.sh"],
    ["bash", "stagecalms.sh.old"],
    ["bash", "stagecalms.sh/x"],
    ["python3", "-m", "pdb", "stagecalms.sh"],
    ["python3", "-c", "x", "stagecalms.sh"],
    ["perl", "-ne", "print", "stagecalms.sh"],
    ["bash", "-"],
    ["bash"],
    [""],
    ["bash\nstagecalms.sh"],
]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("argv", "runs"), [*((argv, True) for argv in RUNS), *((argv, False) for argv in DOES_NOT_RUN)]
)
def test_what_is_a_run_of_the_command(tmp_path: Path, shell: str, argv: list[str], runs: bool) -> None:
    """By its program, or as the script of an interpreter; not by any other argument."""
    (tmp_path / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in argv))
    functions = render_aogremote().removesuffix('main "$@"\n').replace("/proc/$1/cmdline", "$1")
    asking = f"{functions}\nname=stagecalms.sh\nruns_command {tmp_path}/cmdline"
    assert (subprocess.run([*SHELLS[shell].split(), "-c", asking], check=False).returncode == 0) == runs


def run(home: Path, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell's line in this home."""
    return subprocess.run(
        ["bash", "-c", line],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", **environment},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with aogremote and a staging command that tells its locale."""
    (tmp_path / "aogremote").write_text(render_aogremote(command="~/stage.sh"))
    (tmp_path / "stage.sh").write_text('#!/bin/sh\necho "${LC_ALL-none}"\n')
    (tmp_path / "stage.sh").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("shell", SHELLS)
def test_a_full_disk_starts_nothing(home: Path, shell: str) -> None:
    """What cannot be noted is not started, leaves no folder, and says so in a sentence."""
    answer = run(home, f"trap '' XFSZ; ulimit -f 0; exec {SHELLS[shell]} aogremote {START}")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "disk full" in answer.stderr
    assert not (home / ".aogconsole" / TOKEN).exists()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("locale", [None, "C.UTF-8"])
def test_the_command_keeps_the_locale(home: Path, shell: str, locale: str | None) -> None:
    """aogremote's own LC_ALL=C is not the command's."""
    environment = {"LC_ALL": locale} if locale else {}
    answer = run(home, f"{SHELLS[shell]} aogremote {START} && {SHELLS[shell]} aogremote log {TOKEN} 0", **environment)
    assert (answer.returncode, answer.stdout.splitlines()[-1]) == (0, locale or "none")


@pytest.mark.parametrize("shell", SHELLS)
def test_options_come_before_the_rendered_defaults(home: Path, shell: str) -> None:
    """On its own command line only; each is checked."""
    answer = run(home, f"{SHELLS[shell]} aogremote --operator me --slots 5 --root {home}/other hello j-1")
    assert "operator me\n" in answer.stdout
    assert "slots 5\n" in answer.stdout
    assert (home / "other" / "journal").read_text() == "j-1\n"
    for wrong in ("--operator", "--operator 'a b' list", "--slots x list", "--else x list", "-x"):
        assert run(home, f"{SHELLS[shell]} aogremote {wrong}").returncode == 2
