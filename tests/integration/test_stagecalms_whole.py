"""The whole chain: a mail, the engine, aogremote, stagecalms, the nodes, the calibrator, and the letter with the link.

All of it real: OpenSSH between each, rsync, Oracle Net, Maildirs; a calibrator that writes MeasurementSets, which
casacore opens when they are staged.
"""

from __future__ import annotations

import functools
import hashlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import aogconsole
from tests.support.calibrating import Calibrator, Variant, check_served
from tests.support.desk import MOUS, PROJECT, URL, Desk, request_mail
from tests.support.nodes import ACCOUNT, NODES, ClusterSite
from tests.support.oracle import TestArchive
from tests.support.sshd import StagingSite
from tests.support.stagings import COMMAND, TOKEN

LATER = "2019.1.00357.S"
SECOND, THIRD = "uid___A001_X51_X29", "uid___A001_X52_X29"
BLOCKS = {
    MOUS: ["uid___A002_X7e4988_X1f2", "uid___A002_X7e4988_X1f3"],
    SECOND: ["uid___A002_X51_X1", "uid___A002_X51_X2"],
    THIRD: ["uid___A002_X52_X1"],
}
CONFIG = """
[archive]
dsn = "{dsn}"
user = "{user}"
password = "file:archive.password"
[staging]
command = "{command}"
[stagecalms]
nodes = ["{nodes[0]}", "{nodes[1]}"]
rhel5_nodes = ["{nodes[2]}"]
node_user = "{account}"
workdir = "{workdir}"
web_root = "{web_root}"
url = "{url}"
calibrator = '''{calibrator}'''
ssh_config = "{ssh_config}"
room = 0.001
patience = 30
"""
STAGECALMS_SH = """#!/bin/sh
export PYTHONPATH={code}
exec {python} -c {command} --config {config} "$@"
"""


@pytest.fixture
def staging_site(new_staging_site: Callable[..., StagingSite]) -> StagingSite:
    """Its account may run this Python."""
    return new_staging_site(python=True)


def archive_of(uid: str, blocks: dict[str, str]) -> str:
    """A delivered MOUS of a later project of the same PI, with the QA0 status of its execution blocks."""
    database, number = uid.replace("___", "://").replace("_", "/"), uid.split("_")[4]
    rows = "".join(
        f"insert into aqua_v_execblock values('uid://A002/{number}/{block}','{database}s','s','{LATER}',"
        f"'2020-03-01 01:00:00','2020-03-01 02:00:00','SUCCESS','{qa0}',1,'Cycle7');"
        for block, qa0 in blocks.items()
    )
    return (
        f"insert into asa_science values('{number}','{database}','MOUS','{LATER}','{database}','g',"
        f"'uid://A002/{number}/X1','s');"
        f"insert into asa_delivery_status values(1{number[1:]},'{LATER}_{uid}',1,'Y','3000-01-01 00:00:00');"
        f"insert into asa_delivery_asdm_ous values(1,'uid://A002/{number}/X1','{LATER}_{uid}',1{number[1:]});"
        f"insert into obs_unit_set_status values('{database}','x','Delivered','g','p');"
        f"insert into sched_block_status values('{database}s','{database}s','FullyObserved','{database}');{rows}"
    )


@dataclass
class Whole:
    """The console's site, its staging host with the real staging command, and the cluster."""

    desk: Desk
    cluster: ClusterSite
    calibrator: Calibrator

    def directory(self, request: dict[str, Any]) -> Path:
        """What was staged for a request."""
        url: str = request["url"]
        assert url.startswith(URL), url
        return self.desk.host.web_root / url.rpartition("/")[2]

    def log(self, request: dict[str, Any]) -> str:
        """The terminal output that the console has of the request's run."""
        return self.desk.call("log", request["run"], "--raw").stdout.decode()


@pytest.fixture
def whole(
    tmp_path: Path, staging_site: StagingSite, archive: TestArchive, cluster_site: ClusterSite
) -> Iterator[Whole]:
    """The site, with the archive's rows for all three MOUSs."""
    calibrator = Calibrator(cluster_site.folder / "calibrator")
    archive.load(f"insert into asa_project values('{LATER}','S','Later','pi1','Pí, Ann')")
    archive.load(f"insert into dp_delegation values(9,'{LATER}',1,2,'DATA')")
    archive.load(archive_of(SECOND, {"X1": "Pass", "X2": "Pass", "X3": "SemiPass"}))
    archive.load(archive_of(THIRD, {"X1": "Pass"}))
    install(staging_site, archive, cluster_site, calibrator)
    desk = Desk(tmp_path, staging_site, archive)
    desk.configure()
    desk.deliver()
    yield Whole(desk, cluster_site, calibrator)
    desk.close()


def install(host: StagingSite, archive: TestArchive, cluster: ClusterSite, calibrator: Calibrator) -> None:
    """The staging command on the staging host, and its configuration."""
    given, config = archive.settings(), host.home / "stagecalms.toml"
    config.write_text(
        CONFIG.format(
            dsn=given.dsn, user=given.user, command=host.command, nodes=NODES, account=ACCOUNT,
            workdir=cluster.workdir, web_root=host.web_root, url=URL, calibrator=calibrator.command,
            ssh_config=cluster.ssh_config,
        )
    )  # fmt: skip
    secret = host.home / "archive.password"
    secret.write_text(given.password)
    secret.chmod(0o600)
    words = {
        "code": Path(aogconsole.__file__).parents[1],
        "python": sys.executable,
        "command": COMMAND,
        "config": config,
    }
    host.install(STAGECALMS_SH.format(**{name: shlex.quote(str(word)) for name, word in words.items()}))
    host.hand_over()


def test_three_requests_at_once(whole: Whole) -> None:
    """Two run, one waits; all are staged, each letter has its link, and a fourth request finds what is there."""
    desk, asked = whole.desk, {"101": (MOUS, PROJECT), "102": (SECOND, LATER), "103": (THIRD, LATER)}
    for mous in BLOCKS:
        whole.calibrator.order(mous, held=True, megabytes=2)
    with desk.serving():
        desk.deliver(*(request_mail(mous, project, ticket=ticket) for ticket, (mous, project) in asked.items()))
        desk.wait(lambda: len(whole.calibrator.calls()) == 2)
        running = {call.mous for call in whole.calibrator.calls()}
        desk.wait(lambda: sorted(states(desk).values()) == ["queued", "staging", "staging"])
        assert {asked[ticket][0] for ticket, state in states(desk).items() if state == "staging"} == running
        for mous in BLOCKS:
            whole.calibrator.release(mous)
        desk.wait(lambda: set(states(desk).values()) == {"closed"})
        desk.deliver(request_mail(SECOND, LATER, "del1", ticket="104", message_id="<again@eso.org>"))
        desk.wait(lambda: states(desk).get("104") == "closed")
    requests, scratch = desk.requests(), desk.folder / "scratch"
    for ticket, (mous, _) in {**asked, "104": (SECOND, LATER)}.items():
        directory = whole.directory(requests[ticket])
        check_served(directory, BLOCKS[mous], scratch)
        assert any(requests[ticket]["url"].encode() in letter for letter in desk.filed())
        kept = (directory / "stagecalms.log").read_text()
        assert whole.log(requests[ticket]).startswith(kept.rstrip("\n"))
    assert len(desk.filed()) == 4
    assert sorted(call.mous for call in whole.calibrator.calls()) == sorted(BLOCKS)
    assert {path.name for path in desk.host.web_root.iterdir()} == {
        whole.directory(one).name for one in requests.values()
    }
    lines = {ticket: whole.log(request).splitlines() for ticket, request in requests.items()}
    assert "Old project, using RHEL5 build of CASA." in lines["101"]
    assert "DATAMACHINE chosen: arcp-rhel5" in lines["101"]
    assert "EB uid___A002_X51_X3 is left out: its QA0 status is SemiPass" in lines["102"]
    assert "All of the needed MSs were found among the already staged MSs." in lines["104"]
    first, again = (
        whole.directory(requests[ticket]) / f"{BLOCKS[SECOND][0]}.ms.split.cal.tar" for ticket in ("102", "104")
    )
    assert first.samefile(again)
    assert all(node.directories() == [] and node.workers() == [] for node in whole.cluster.nodes.values())


def states(desk: Desk) -> dict[str, str]:
    """Of each request, by ticket."""
    return {ticket: request["state"] for ticket, request in desk.requests().items()}


def test_failures_go_to_the_expert(whole: Whole) -> None:
    """With the whole output; nothing is served, and each working directory is where the last line says."""
    desk, says = whole.desk, dict[str, str]()
    variants: list[tuple[Variant, str, str]] = [
        ("fails", MOUS, f"ERROR: {BLOCKS[MOUS][1]}.ms.split.cal was not created."),
        ("missing", SECOND, BLOCKS[SECOND][1]),
        ("killed", THIRD, "137"),
    ]
    for number, (variant, mous, text) in enumerate(variants):
        whole.calibrator.order(mous, variant=variant)
        says[f"11{number}"] = text
        desk.deliver(request_mail(mous, PROJECT if mous == MOUS else LATER, ticket=f"11{number}"))
    desk.serve_until_idle()
    letters = b"".join(desk.filed()).replace(b"=\r\n", b"").replace(b"=\n", b"")
    left = {name for node in whole.cluster.nodes.values() for name in node.directories()}
    for ticket, request in desk.requests().items():
        log = whole.log(request)
        *_, failed, stays = log.splitlines()
        assert request["state"] == "held", log
        assert says[ticket] in log
        token = TOKEN.search(log)
        assert token, log
        directory = desk.host.web_root / token[1]
        assert directory.stat().st_mode & 0o777 == 0o700
        database = request["mous"].replace("___", "://").replace("_", "/")
        assert failed == (
            f"Failed. Please investigate  {directory} and possibly remove incomplete data belonging to MOUS {database}"
        )
        (work,) = [name for name in left if f"{whole.cluster.workdir}/{name}" in stays]
        assert stays == f"The working directory {whole.cluster.workdir}/{work} on the EU ARC cluster was not removed."
        assert work.encode() in letters
    assert len(left) == len(list(desk.host.web_root.iterdir())) == 3
    assert letters.count(b"To: dpetry@eso.org") == 3
    assert all(node.workers() == [] for node in whole.cluster.nodes.values())


def test_what_is_staged_wrong_is_caught(tmp_path: Path) -> None:
    """By the check of the tests above: no MeasurementSet, a wrong checksum, a tar too few, a closed directory."""
    calibrator, block = Calibrator(tmp_path / "calibrator"), "uid___A002_X1_X1"
    subprocess.run([*shlex.split(calibrator.command), LATER, SECOND, block], cwd=tmp_path, check=True)
    staged = tmp_path / "staged"
    staged.mkdir(mode=0o755)
    tar = staged / f"{block}.ms.split.cal.tar"
    (staged / "_README.txt").write_text("read me")

    def pack(*, spoiled: bool = False) -> None:
        if spoiled:
            shutil.rmtree(tmp_path / f"{block}.ms.split.cal" / "ANTENNA")
        subprocess.run(["tar", "-C", str(tmp_path), "-cf", str(tar), f"{block}.ms.split.cal"], check=True)
        with tar.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        (staged / "SHA256SUMS").write_text(f"{digest}  {tar.name}\n")

    pack()
    check_served(staged, [block], tmp_path / "scratch")
    wrong: list[Callable[[], object]] = [
        functools.partial(pack, spoiled=True),
        lambda: (staged / "SHA256SUMS").write_text(f"{'0' * 64}  {tar.name}\n"),
        lambda: staged.chmod(0o700),
        tar.unlink,
    ]
    for number, spoil in enumerate(wrong):
        spoil()
        with pytest.raises((AssertionError, RuntimeError)):
            check_served(staged, [block], tmp_path / f"scratch{number}")
