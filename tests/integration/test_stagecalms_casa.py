"""The staging command with what is shipped for a site: execution blocks of the archive, scriptForPI.py in CASA.

The archive answers over Oracle Net, the node is a real sshd, the calibrator is the one that the command prints; CASA is
a program that runs the delivered script.
"""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from aogconsole.staging.transcript import Failed
from tests.integration.test_stagecalms import BLOCK, Host
from tests.support.nodes import ClusterSite
from tests.support.oracle import TestArchive
from tests.unit.test_scriptforpi import CASA, DONE, SCRIPT

SEMIPASS = "uid___A002_X7e4988_X1f3"
FETCH = """
set -e
echo "fetch $*"
top=$1/science_goal.x/group.y/member.$2
mkdir -p "$top/script" "$top/raw"
cp "$(dirname "$0")/script" "$top/script/member.$2.scriptForPI.py"
shift 2
for block; do mkdir "$top/raw/$block.asdm.sdm"; done
"""


class CasaHost(Host):
    """A host whose site has an archive, and CASA on its nodes."""

    archive: TestArchive
    calibrator = ""

    @property
    def environment(self) -> dict[str, str]:
        """The archive, too."""
        archive = {"DSN": self.archive.dsn, "USER": self.archive.user, "PASSWORD": "env:ARCHIVE"}
        told = {f"AOGCONSOLE_ARCHIVE__{name}": value for name, value in archive.items()}
        told["AOGCONSOLE_STAGECALMS__CALIBRATOR"] = self.calibrator
        return {**super().environment, **told, "ARCHIVE": self.archive.password}


@pytest.fixture
def host(cluster_site: ClusterSite, archive: TestArchive) -> CasaHost:
    """Set up as the page says."""
    made = CasaHost(cluster_site)
    made.archive = archive
    archive.load(
        "insert into aqua_v_execblock(execblockuid, schedblockuid, status, qa0status) values"
        " ('uid://A002/X7e4988/X1f3', 'uid://A002/X788a57/X30', 'SUCCESS', 'SemiPass'),"
        " ('uid://A002/X7e4988/X1f4', 'uid://A002/X788a57/X30', 'ABORTED', 'Unset');"
    )
    folder = cluster_site.folder / "a site's"
    folder.mkdir(mode=0o755)
    told = subprocess.run(
        [*made.argv()[:3], "--print-calibrator"], env=made.environment, capture_output=True, check=True
    )
    (folder / "scriptforpi.sh").write_bytes(told.stdout)
    (folder / "fetch").write_text(FETCH)
    (folder / "casa").write_text(CASA)
    (folder / "script").write_text(f"{SCRIPT}\nms('{BLOCK}.ms.split.cal')\nprint('{DONE}')\n")
    casa = shlex.join(["env", "NOTES=.", sys.executable, "-S", "-B", str(folder / "casa"), "--pipeline"])
    fetch = shlex.join(["sh", str(folder / "fetch")])
    words = ["sh", str(folder / "scriptforpi.sh"), "--casa", casa, "--fetch", fetch]
    made.calibrator = shlex.join([*words, "--set", "SPACESAVING = 2"])
    made.settings["blocks"] = ""
    return made


def test_a_delivery_is_calibrated_in_casa(host: CasaHost) -> None:
    """What has passed QA0 is fetched, calibrated and staged; the lines of the calibrator are between the others."""
    told = host.stage()
    host.served(told, BLOCK)
    lines = told.lines
    at = lines.index("Now generating the calibrated MS(s) ...")
    assert lines[at + 1] == f"EB {SEMIPASS} is left out: its QA0 status is SemiPass"
    at = lines.index("None or not all of the needed MSs found: Will regenerate all the MSs ...")
    name = f"member.{told.job[1]}.scriptForPI.py"
    assert lines[at + 1 : lines.index("Copying over the generated MSs ...")] == [
        "Fetching the delivered products and raw data ...",
        f"fetch {told.job[0]} {told.job[1]} {BLOCK}",
        f"Running {name} ...",
        f"2016-10-01 12:00:01 INFO calibrating {BLOCK}.asdm.sdm",
        DONE,
        "The MeasurementSets of 1 execution block(s) are ready.",
    ]
    assert "X1f4" not in told.output.decode()
    host.nothing_left()


def test_what_casa_says_goes_to_the_expert(host: CasaHost) -> None:
    """A script that is not done: its lines, CASA's log in the directory that stays, and the procedure's two lines."""
    script = host.cluster.folder / "a site's" / "script"
    script.write_text(f"{SCRIPT}\nprint('ERROR: {BLOCK}.ms.split.cal was not created.')\nprint('{DONE}')\n")
    told = host.stage()
    lines = told.failed()
    assert f"ERROR: {BLOCK}.ms.split.cal was not created." in lines
    assert any(line.startswith(f"ERROR: scriptForPI.py created no MeasurementSet of {BLOCK}: ") for line in lines)
    assert isinstance(told.outcome, Failed)
    (work,) = [node.work / name for node in host.cluster.nodes.values() for name in node.directories()]
    assert work.name == str(told.outcome.workdir).rpartition("/")[2]
    assert list(work.rglob("casa-*.log"))


def test_an_archive_that_does_not_answer(host: CasaHost) -> None:
    """Nothing is calibrated that is not known."""
    host.archive.login_error = 1033
    lines = host.stage().failed()
    assert "ERROR: The archive is starting or stopping (ORA-01033)." in lines
