"""The staging command as it is installed, on nodes over real OpenSSH and rsync: its transcripts, line by line."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import aogconsole
from aogconsole.ids import MousUid, ProjectCode, Ticket
from aogconsole.stagecalms.job import TAR
from aogconsole.staging.transcript import Failed, Outcome, Succeeded, Transcript
from tests.support.command import in_terminal
from tests.support.nodes import ACCOUNT, NODES, ClusterSite

CORPUS = Path(__file__).parents[1] / "corpora" / "transcripts"
URL = "http://almascience.eso.org/arcdistribution/preview"
MOUS = "uid___A002_X788a57_X29"
BLOCK, OTHER = "uid___A002_X7e4988_X1f2", "uid___A002_X7e4988_X2aa"
COMMAND = "from aogconsole.stagecalms.command import main; main()"
STOPS_WITHIN = 5.0


@dataclass
class Told:
    """How a run ended."""

    job: tuple[str, str, str]
    status: int
    output: bytes
    messages: bytes

    @property
    def lines(self) -> list[str]:
        """Of the transcript."""
        assert self.output.endswith(b"\n"), self
        return self.output.decode().split("\n")[:-1]

    @property
    def outcome(self) -> Outcome:
        """As the console reads it."""
        project, mous, ticket = self.job
        transcript = Transcript(ProjectCode.parse(project), MousUid.parse(mous), Ticket.parse(ticket), [URL])
        transcript.feed(self.output)
        transcript.close()
        return transcript.outcome(self.status)

    def failed(self, *, work: bool = True) -> list[str]:
        """It has, with one failure block; the lines above it."""
        assert self.status == 1, self
        assert isinstance(self.outcome, Failed), self
        assert (self.outcome.workdir is not None) == work, self
        block = 2 if work else 1
        assert [line.startswith("Failed. ") for line in self.lines].index(True) == len(self.lines) - block
        return self.lines[:-block]


@dataclass
class Host:
    """A staging host's account, in a folder beside the nodes."""

    cluster: ClusterSite
    settings: dict[str, str] = field(default_factory=dict)
    blocks: list[str] = field(default_factory=lambda: [f"{BLOCK} Pass"])
    command: str = COMMAND

    def __post_init__(self) -> None:
        for path in (self.home, self.web_root):
            path.mkdir(mode=0o755)

    @property
    def home(self) -> Path:
        """The account's."""
        return self.cluster.folder / "host"

    @property
    def web_root(self) -> Path:
        """Of staged data."""
        return self.cluster.folder / "web"

    def argv(self, project: str = "2012.1.00357.S", enter: Sequence[str] = ()) -> list[str]:
        """The command, configured anew."""
        (self.home / "blocks").write_text("\n".join(self.blocks))
        settings = {
            "nodes": [*NODES[:-1]],
            "rhel5_nodes": [NODES[-1]],
            "rhel5_before": "2012",
            "node_user": ACCOUNT,
            "workdir": str(self.cluster.workdir),
            "web_root": str(self.web_root),
            "url": URL,
            "calibrator": str(self.cluster.calibrator),
            "blocks": f"cat {shlex.quote(str(self.home / 'blocks'))} #",
            "ssh_config": str(self.cluster.ssh_config),
            "room": 0.001,
            "patience": 3,
        } | self.settings
        lines = (f"{key} = {str(value) if isinstance(value, list) else repr(value)}" for key, value in settings.items())
        config = self.home / "config.toml"
        config.write_text("[stagecalms]\n" + "\n".join(lines) + "\n")
        return [*enter, sys.executable, "-c", self.command, "--config", str(config), project, MOUS, "15270"]

    @property
    def environment(self) -> dict[str, str]:
        """Of the account's login; programs in ~/bin come first."""
        code = str(Path(aogconsole.__file__).parents[1])
        return {"HOME": str(self.home), "PATH": f"{self.home}/bin:{os.environ['PATH']}", "PYTHONPATH": code}

    def start(self, project: str = "2012.1.00357.S", enter: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """A run; its output is a pipe."""
        return subprocess.Popen(
            self.argv(project, enter),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def end(self, run: subprocess.Popen[bytes], project: str = "2012.1.00357.S") -> Told:
        """Wait for its end."""
        try:
            output, messages = run.communicate(timeout=60)
        finally:
            run.kill()
        return Told((project, MOUS, "15270"), run.returncode, output, messages)

    def stage(self, project: str = "2012.1.00357.S", enter: Sequence[str] = ()) -> Told:
        """A run to its end."""
        return self.end(self.start(project, enter), project)

    def served(self, told: Told, *blocks: str) -> Path:
        """It has succeeded with exactly these blocks' tars, whole and readable for all."""
        assert told.status == 0, told
        assert isinstance(told.outcome, Succeeded), told
        directory = self.web_root / told.outcome.url.rpartition("/")[2]
        found = {path.name: path for path in directory.iterdir()}
        assert set(found) == {f"{block}{TAR}" for block in blocks} | {"_README.txt", "SHA256SUMS", "stagecalms.log"}
        assert stat.S_IMODE(directory.stat().st_mode) == 0o755
        assert {stat.S_IMODE(path.stat().st_mode) for path in found.values()} == {0o644}
        subprocess.run(["sha256sum", "--strict", "--quiet", "-c", "SHA256SUMS"], cwd=directory, check=True)
        for block in blocks:
            with tarfile.open(directory / f"{block}{TAR}") as tar:
                assert tar.getnames()[0] == f"{block}.ms.split.cal"
        assert told.output.startswith(found["stagecalms.log"].read_bytes())
        return directory

    def nothing_left(self) -> None:
        """No process and no directory on any node."""
        end = time.monotonic() + 10
        while left := [(node.name, node.workers(), node.directories()) for node in self.cluster.nodes.values()]:
            if not any(workers or directories for _, workers, directories in left):
                return
            assert time.monotonic() < end, left
            time.sleep(0.05)


@pytest.fixture
def host(cluster_site: ClusterSite) -> Host:
    """One beside three nodes."""
    return Host(cluster_site)


def constant(line: str) -> str:
    """A transcript's line without what varies from run to run, and from host to host."""
    for pattern, name in (
        (r"/[0-9a-f]{32}", "/TOKEN"),
        (r"\S*/WORK[0-9]{5,}", "WORK"),
        (r"(sent|received|is) +[0-9]+(\.[0-9]+)?", r"\1 N"),
        (r"[0-9.]+ bytes/sec", "N bytes/sec"),
        (r"from [A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} UTC 20[0-9]{2}", "from DATE"),
        (r"investigate  \S+/TOKEN", "investigate  TOKEN"),
        (r"uid://A00\S+", "MOUS"),
        (r"arcp[19]\b", "arcpN"),
    ):
        line = re.sub(pattern, name, line)
    return line


def expected(name: str, calibrator: Sequence[str] = ()) -> list[str]:
    """The procedure's transcript, with what the calibrator says where it says it."""
    lines = [constant(line) for line in (CORPUS / name).read_text().split("\n")[:-1]]
    if calibrator:
        at = lines.index("Copying over the generated MSs ...")
        lines[at:at] = calibrator
    return lines


SAYS = (f"calibrator 2012.1.00357.S {MOUS} {BLOCK}", "Done. Please find results in current directory.")


def test_the_procedures_success_and_a_reuse(host: Host) -> None:
    """Each line of the procedure's transcript, blank ones too; the same MOUS again is linked."""
    first = host.stage()
    assert [constant(line) for line in first.lines] == expected("success.txt", SAYS)
    assert first.messages == b""
    staged = host.served(first, BLOCK)
    host.nothing_left()

    again = host.stage()
    lines = [constant(line) for line in again.lines]
    at = lines.index(BLOCK)
    assert lines[:at] + lines[at + 6 :] == expected("success.txt")[:at] + expected("success.txt")[at + 6 :]
    assert lines[at + 1 : at + 6] == [
        f"MS for {BLOCK} was found among the already staged MSs.",
        "All of the needed MSs were found among the already staged MSs.",
        "Copying over the generated MSs ...",
        "sending incremental file list",
        f"{BLOCK}{TAR}",
    ]
    assert (host.served(again, BLOCK) / f"{BLOCK}{TAR}").samefile(staged / f"{BLOCK}{TAR}")
    assert sum(node.calibrators() for node in host.cluster.nodes.values()) == 1
    host.nothing_left()


def test_a_changed_line_is_caught(host: Host) -> None:
    """A command that words one line otherwise does not pass for the procedure's."""
    host.command = f"from aogconsole.stagecalms import words; words.COPYING = 'Copying ...'; {COMMAND}"
    assert [constant(line) for line in host.stage().lines] != expected("success.txt", SAYS)


def test_the_procedures_failure(host: Host) -> None:
    """The calibrator fails: the procedure's two lines, both directories stay, no process does."""
    host.settings["calibrator"] = f"STATUS=3 {host.cluster.calibrator}"
    told = host.stage()
    told.failed()
    assert [constant(line) for line in told.lines[-2:]] == expected("failure.txt")
    assert isinstance(told.outcome, Failed)
    directory = Path(told.outcome.directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert (directory / "stagecalms.log").read_bytes() == told.output
    left = [name for node in host.cluster.nodes.values() for name in node.directories()]
    assert told.outcome.workdir is not None
    assert left == [told.outcome.workdir.rpartition("/")[2]]
    assert not any(node.workers() for node in host.cluster.nodes.values())


def test_an_old_project_and_a_block_left_out(host: Host) -> None:
    """The RHEL5 node with the procedure's line; a SemiPass block is told and not calibrated; two tars."""
    third = "uid___A002_X7e4988_X3"
    host.blocks = [f"{OTHER} Pass", f"{third} SemiPass", BLOCK]
    told = host.stage("2011.0.00010.S")
    assert told.lines[2] == "DATAMACHINE chosen: arcp-rhel5"
    assert told.lines[5:8] == [
        "Old project, using RHEL5 build of CASA.",
        "Now generating the calibrated MS(s) ...",
        f"EB {third} is left out: its QA0 status is SemiPass",
    ]
    directory = host.served(told, BLOCK, OTHER)
    assert f"{third}  SemiPass" in (directory / "_README.txt").read_text()
    host.nothing_left()


def test_all_nodes_dead(host: Host) -> None:
    """A line for each, and the failure block's first line alone."""
    for node in host.cluster.nodes.values():
        node.kill()
    told = host.stage()
    assert told.failed(work=False)[1:] == [
        "Looking for cluster node with low load ...",
        "Node arcp1.hq.eso.org is skipped: refused",
        "Node arcp9.hq.eso.org is skipped: refused",
        "ERROR: no cluster node could be taken",
    ]


def test_no_room_for_the_tars(host: Host) -> None:
    """The web root's disk is too small: one clear sentence before a byte is copied."""
    own = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-r", "-m"]
    script = f'mount -t tmpfs -o size=200k none {shlex.quote(str(host.web_root))} && exec "$@"'
    host.settings["calibrator"] = f"SIZE=400000 {host.cluster.calibrator}"
    above = host.stage(enter=[*own, "sh", "-c", script, "sh"]).failed()
    assert any(line.startswith("ERROR: the web root's disk is full: the tars need 0.001 GB") for line in above)
    assert "receiving incremental file list" not in above


RSYNC = """#!/bin/sh
# the copy's last byte is spoiled, as often as it is said
for into; do :; done
{rsync} "$@" || exit
for tar in "$into"/*.tar; do
    read -r left <{left}
    [ "$left" -gt 0 ] || exit 0
    echo $((left - 1)) >{left}
    truncate -s -1 "$tar"
    printf X >>"$tar"
done
"""


@pytest.mark.parametrize("spoiled", [1, 9])
def test_a_copy_that_arrives_wrong(host: Host, spoiled: int) -> None:
    """It is copied once more; wrong again, it is never served."""
    wrapper, left = host.home / "bin" / "rsync", host.home / "left"
    wrapper.parent.mkdir()
    wrapper.write_text(RSYNC.format(rsync=shutil.which("rsync"), left=left))
    wrapper.chmod(0o755)
    left.write_text(f"{spoiled}\n")
    told = host.stage()
    assert f"Checksum of {BLOCK}{TAR} is wrong: copying it again ..." in told.lines
    if spoiled == 1:
        host.served(told, BLOCK)
    else:
        assert told.failed()[-1] == f"ERROR: {BLOCK}{TAR} arrived with a wrong checksum, twice"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_told_to_stop(host: Host, number: signal.Signals) -> None:
    """The worker is ended within its time, the failure block told, exit status 1; a second signal changes nothing."""
    host.settings["calibrator"] = f"GATE=/nowhere {host.cluster.calibrator}"
    run = host.start()
    assert run.stdout
    for line in run.stdout:
        if line.startswith(b"calibrator "):
            break
    began = time.monotonic()
    run.send_signal(number)
    run.send_signal(number)
    rest = host.end(run)
    assert time.monotonic() - began < STOPS_WITHIN + 3
    assert rest.status == 1
    assert rest.lines[0] == "ERROR: it was told to stop"
    assert [constant(line) for line in rest.lines[1:]] == expected("failure.txt")
    assert not any(node.workers() for node in host.cluster.nodes.values())


def test_a_reader_that_goes_away(host: Host) -> None:
    """The work goes on, and is served; the exit status says that the completion block was not written."""
    run = host.start()
    assert run.stdout
    first = run.stdout.readline().decode().strip()
    run.stdout.close()
    assert run.stderr
    messages = run.stderr.read().decode()
    assert run.wait(60) == 1
    assert messages.startswith("stagecalms: the data are staged and served")
    assert stat.S_IMODE((host.web_root / first.rpartition("/")[2]).stat().st_mode) == 0o755
    host.nothing_left()


def test_a_reader_that_stands_still(host: Host) -> None:
    """A stopped terminal stops no signal: the worker is ended all the same."""
    host.settings["calibrator"] = "yes calibrating | head -c 12000000; GATE=/nowhere " + str(host.cluster.calibrator)
    run = host.start()
    assert run.stdout
    for line in run.stdout:
        if line == b"calibrating\n":
            break
    run.send_signal(signal.SIGTERM)
    assert run.wait(STOPS_WITHIN + 10) == 1
    run.stdout.close()
    end = time.monotonic() + 5
    while any(node.workers() for node in host.cluster.nodes.values()):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_terminal_gets_no_control_characters(host: Host) -> None:
    """What the calibrator says is made safe for a terminal; beside the tars it is kept as it was."""
    hostile = "\x1b]0;title\x07\x9b2J naïve \u202e"
    script = host.home / "hostile"
    script.write_bytes(f"printf '%s\\n' '{hostile}'\n".encode())
    script.chmod(0o644)
    host.settings["calibrator"] = f"sh {script}; {host.cluster.calibrator}"
    status, seen = in_terminal(host.argv(), host.environment)
    assert status == 0
    assert b"\x1b" not in seen
    assert "\\x1b]0;title\\x07\\x9b2J naïve \\u202e".encode() in seen
    (log,) = host.web_root.glob("*/stagecalms.log")
    assert hostile.encode() in log.read_bytes()


def test_checksums_hold_from_node_to_user(host: Host) -> None:
    """The sum beside a tar is that of the bytes that the node packed, many pieces long."""
    host.settings["calibrator"] = f"SIZE=5000000 {host.cluster.calibrator}"
    directory = host.served(host.stage(), BLOCK)
    digest = hashlib.sha256((directory / f"{BLOCK}{TAR}").read_bytes()).hexdigest()
    assert (directory / "SHA256SUMS").read_text() == f"{digest}  {BLOCK}{TAR}\n"
