"""Re-ingestion on real servers as they are configured: healthy, wrong in each way, and by CAPO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aogconsole import capo
from tests.support.command import Done, call
from tests.support.ngas import Ngas
from tests.support.postgres import PASSWORD, Database
from tests.support.rabbitmq import Vhost

CONFIG = """
[journal]
path = "state/journal.db"
syslog = ""
[metadata]
dsn = "{dsn}"
password = "env:AOG_TEST_METADATA"
[broker]
url = "{url}"
password = "env:AOG_TEST_BROKER"
[archive]
dsn = "127.0.0.1:1/ALMA"
timeout = 1
[ngas]
url = "{ngas}"
"""


class Place:
    """A configuration that names real servers; texts of it can be replaced."""

    def __init__(self, folder: Path, postgres: Database, rabbitmq: Vhost, ngas: Ngas) -> None:
        self.folder, self.file = folder, folder / "config.toml"
        self.text = CONFIG.format(dsn=postgres.dsn, url=rabbitmq.url, ngas=ngas.url)
        self.replace()

    def replace(self, *changes: tuple[str, str]) -> None:
        """Write the configuration with texts in the place of others."""
        text = self.text
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        self.file.write_text(text)

    def call(self, *words: str) -> Done:
        """A verb."""
        return call(self.file, *words)

    def refused(self, code: int, *words: str) -> str:
        """What a verb says when it ends with this code; no password is in it, nor a traceback."""
        done = self.call(*words)
        told = (done.out + done.err).decode()
        assert done.code == code, (words, told)
        assert PASSWORD not in told
        assert "Traceback" not in told
        assert all(line.isprintable() for line in told.splitlines())
        return told

    def findings(self) -> dict[str, dict[str, Any]]:
        """What the doctor finds of re-ingestion."""
        return {one["check"]: one for one in self.call("doctor", "--json").json
                if one["check"] in ("metadata", "broker", "ngas", "capo")}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, postgres: Database, rabbitmq: Vhost, ngas: Ngas, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A site with PostgreSQL, RabbitMQ and NGAS."""
    monkeypatch.setenv("AOG_TEST_METADATA", PASSWORD)
    monkeypatch.setenv("AOG_TEST_BROKER", rabbitmq.password)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CAPO_PATH", raising=False)
    return Place(tmp_path, postgres, rabbitmq, ngas)


def test_a_healthy_site(place: Place) -> None:
    """Queues are declared once and again; doctor, overview and verbs work on the real servers."""
    assert place.call("reingestion", "--json").code == 4  # the work queue is not declared yet
    assert "no queue alma_reingestion" in place.findings()["broker"]["detail"]
    assert place.call("broker", "declare").code == place.call("broker", "declare").code == 0
    assert {check: one["ok"] for check, one in place.findings().items()} == {
        "metadata": True, "broker": True, "ngas": True
    }  # fmt: skip
    told = place.call("reingestion", "--json").json
    assert (told["queue_depth"], told["broker"], told["metadata"]) == (0, "connected", "connected")
    words = ["--kind", "calibration", "--uid", "uid___A001_X1_X1", "--json"]
    row = place.call("reingestion", "add", *words).json["id"]
    assert place.call("reingestion", "drop", row, "--why", "x", "--json").json["state"] == "dropped"
    assert place.call("reingestion", "drop", row, "--why", "x").code == 5
    assert place.call("reingestion", "requeue", row, "--why", "x", "--json").json["state"] == "waiting"
    told = place.call("reingestion", "show", row, "--json").json
    assert [one["to"] for one in told["history"]] == ["waiting", "dropped", "waiting"]
    assert place.call("config", "check").code == 0


def test_what_is_wrong_is_told_apart(place: Place) -> None:
    """Passwords, databases, hosts: exit code 4, one finding each with what to do; the rest is healthy."""
    assert place.call("broker", "declare").code == 0
    for old, new, check in (
        ("env:AOG_TEST_METADATA", "env:HOME", "metadata"),
        (place.text.partition("@")[2].partition('"')[0], "127.0.0.1:1/x", "metadata"),
        ("env:AOG_TEST_BROKER", "env:HOME", "broker"),
        ("[ngas]\nurl = ", '[ngas]\nurl = "http://127.0.0.1:1" #', "ngas"),
    ):
        place.replace((old, new))
        found = place.findings()
        assert {name for name, one in found.items() if not one["ok"]} == {check}, found
        assert found[check]["hint"]
        if check != "ngas":
            verb = ["items"] if check == "metadata" else []
            place.refused(4, "reingestion", *verb)
            place.refused(4, "runner", "--until-idle")
    place.replace(("env:AOG_TEST_METADATA", "env:AOG_NOT_SET"))
    for words in (["loader", "--once"], ["runner", "--until-idle"], ["reingestion"], ["config", "check"]):
        assert "AOG_NOT_SET" in place.refused(3, *words)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([("[metadata]\ndsn = ", '[metadata]\ndsn = "" #')], "metadata.dsn is not set"),
        ([("[metadata]\ndsn = ", '[metadata]\ndsn = "mysql://x/y" #')], "metadata.dsn"),
        ([("[broker]\nurl = ", '[broker]\nurl = "" #')], "broker.url is not set"),
        ([("[broker]\nurl = ", '[broker]\nurl = "amqp://u@h:port/v" #')], "broker.url"),
        ([("[journal]", '[reingestion]\ncapo_profile = "no-such"\n[journal]')], "there is no CAPO profile no-such"),
        ([("[journal]", '[reingestion]\nlauncher = "pbs"\n[journal]')], "reingestion.launcher"),
    ],
)
def test_settings_that_mean_nothing_stop_loader_and_runner(
    place: Place, changes: list[tuple[str, str]], said: str
) -> None:
    """Exit code 3 before anything is done, the key named, the secret not."""
    place.replace(*changes)
    for words in (["loader", "--once"], ["runner", "--until-idle"]):
        told = place.refused(3, *words)
        assert said in told
        assert "s3cret" not in told


def test_a_site_without_a_name_stops_the_runner(place: Place) -> None:
    """Nothing is claimed that could not be launched: exit code 3, the key named."""
    for section in ("sites", "workflows"):
        place.replace(("[journal]", f'[reingestion.{section}]\ncalibration = ""\n[journal]'))
        assert f"reingestion.{section}.calibration is not set" in place.refused(3, "runner", "--until-idle")


def test_capo_alone_configures_the_servers(place: Place, postgres: Database, rabbitmq: Vhost) -> None:
    """Broker and database from a property file, passwords included; what is there is told by the doctor."""
    assert place.call("broker", "declare").code == 0
    port, vhost = rabbitmq.url.rpartition(":")[2].split("/")
    file = place.folder / ".capo" / "naasc-test.properties"
    file.parent.mkdir()
    lines = [
        f"{capo.BROKER}.hostname=127.0.0.1", f"{capo.BROKER}.port={port}", f"{capo.BROKER}.username={rabbitmq.user}",
        f"{capo.BROKER}.virtualHost={vhost.replace('%2F', '/')}", f"{capo.BROKER}.password={rabbitmq.password}",
        f"{capo.DATABASE}.jdbcUrl=jdbc:postgresql://{postgres.dsn.partition('@')[2]}",
        f"{capo.DATABASE}.jdbcUsername={postgres.dsn.partition('//')[2].partition('@')[0]}",
        f"{capo.DATABASE}.jdbcPassword={PASSWORD}",
    ]  # fmt: skip
    file.write_text("\n".join(lines))
    place.file.write_text('[journal]\npath = "state/journal.db"\n[reingestion]\ncapo_profile = "naasc-test"\n')
    found = place.findings()
    assert {check: one["ok"] for check, one in found.items()} == {"capo": True, "metadata": True, "broker": True}, found
    assert found["capo"]["detail"] == str(file)
    assert place.call("reingestion").code == 0
    file.write_text(f"{capo.BROKER}.hostname=127.0.0.1\n{capo.OURS}.limit=x\n")
    assert {check: one["ok"] for check, one in place.findings().items()} == {"capo": False}
    assert place.call("requests").code == 0
