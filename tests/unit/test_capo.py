"""CAPO's property files: which counts, how they are read, what becomes of them, and when they change."""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from aogconsole import capo, config, reingestionsite
from aogconsole.config import Config
from aogconsole.errors import ConfigError
from aogconsole.reingestion.item import Queue
from tests.support.command import call

SERVER, DATABASE, OURS = capo.BROKER, capo.DATABASE, capo.OURS
WHOLE = f"""
# the broker
{SERVER}.hostname = mq.example.org
{SERVER}.username: amy gdala
{SERVER}.password=s3:cret@\\u0041
{SERVER}.port  5673
{DATABASE}.jdbcUrl = jdbc:postgresql://db.example.org:5433/archive?prepareThreshold=0&ssl=true
{DATABASE}.jdbcUsername = archive
{DATABASE}.jdbcPassword = other
{OURS}.interval = 1800
{OURS}.limit = 9
{OURS}.execblockOverlap = 100.5
{OURS}.calibrationOverlap =
something.else = 1
"""


class Place:
    """A configuration, and the folders of CAPO_PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {"HOME": str(folder / "home"), "CAPO_PATH": f"{folder}/first:{folder}/second"}
        self.toml = folder / "config.toml"
        self.toml.write_text('[reingestion]\ncapo_profile = "naasc-test"\n')

    def put(self, where: str, text: str | bytes, profile: str = "naasc-test") -> Path:
        """Write a profile's file, as if a while ago."""
        file = self.folder / where / f"{profile}.properties"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return self.aged(file)

    def aged(self, file: Path) -> Path:
        """As if written a while ago."""
        os.utime(file, (time.time() - 60, time.time() - 60))
        return file

    def load(self, **environ: str) -> Config:
        """The configuration. Raises ConfigError, for CAPO too."""
        loaded = config.load(self.toml, environ={**self.environ, **environ})
        loaded.sound()
        return loaded


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A configuration that names a profile."""
    return Place(tmp_path)


def test_a_later_folder_counts_and_home_last(place: Place) -> None:
    """Folder by folder, keys in any case; a file that is missing is skipped; each value says its file."""
    place.put("first", f"{OURS}.limit=1\n{OURS}.attempts=7\n{OURS}.interval=60\n")
    home = place.put("home/.capo", f"{OURS.upper()}.LIMIT = 3\n")
    loaded = place.load()
    assert loaded.settings.reingestion.limit == 3
    assert loaded.settings.reingestion.attempts == 7
    assert loaded.values["reingestion.limit"].source == f"capo {home}"
    assert loaded.values["reingestion.attempts"].source == f"capo {place.folder}/first/naasc-test.properties"
    assert loaded.values["reingestion.lease"].source == "default"
    place.put("second", f"{OURS}.attempts=8\n")
    assert place.load().settings.reingestion.attempts == 8


def test_without_capo_path_the_usual_folders(place: Place) -> None:
    """`CAPO_PATH` unset or empty: /home/casa/capo, /home/ssa/capo; ~/.capo behind."""
    for environ in ({"HOME": "/home/anna"}, {"HOME": "/home/anna", "CAPO_PATH": ""}):
        folders = [str(file.parent) for file in capo.files("dsoc-prod", environ)]
        assert folders == ["/home/casa/capo", "/home/ssa/capo", "/home/anna/.capo"]
    there = capo.files("x", {"HOME": "/home/anna", "CAPO_PATH": "~/a::b"})
    assert [str(file.parent) for file in there] == ["/home/anna/a", "b", "/home/anna/.capo"]


def test_broker_and_database_are_put_together(place: Place) -> None:
    """From the real keys: an address without its password, which no value holds and `secret` gives."""
    place.put("first", WHOLE)
    loaded = place.load()
    assert loaded.settings.broker.url == "amqp://amy%20gdala@mq.example.org:5673/%2F"
    assert loaded.settings.metadata.dsn == "postgresql://archive@db.example.org:5433/archive?sslmode=verify-full"
    assert loaded.secret("broker.password") == "s3:cret@A"
    assert loaded.secret("metadata.password") == "other"
    assert loaded.settings.reingestion.interval == 1800
    assert loaded.settings.reingestion.execblock_overlap == 100.5
    assert loaded.settings.reingestion.calibration_overlap == 172800  # an empty value is none
    shown = repr(loaded) + str(loaded.values)
    assert "s3:cret" not in shown
    assert "'other'" not in shown


def test_what_stands_elsewhere_counts_before_capo(place: Place) -> None:
    """Flag, environment and TOML; an address from there never gets CAPO's password."""
    place.put("first", WHOLE)
    place.toml.write_text('[reingestion]\ncapo_profile = "naasc-test"\nlimit = 2\n[broker]\nurl = "amqp://me@other"\n')
    loaded = place.load(AOGCONSOLE_REINGESTION__INTERVAL="5")
    assert (loaded.settings.reingestion.limit, loaded.settings.reingestion.interval) == (2, 5.0)
    assert (loaded.settings.broker.url, loaded.secret("broker.password")) == ("amqp://me@other", "")
    assert loaded.secret("metadata.password") == "other"
    flagged = config.load(place.toml, environ=place.environ, flags={"reingestion.attempts": 5})
    assert flagged.settings.reingestion.attempts == 5
    profile = config.load(place.toml, environ={**place.environ, "AOGCONSOLE_REINGESTION__CAPO_PROFILE": ""})
    assert profile.settings.metadata.dsn == ""
    place.toml.write_text('[reingestion]\ncapo_profile = "naasc-test"\n[broker]\npassword = "env:MINE"\n')
    assert place.load().values["broker.password"].value == "env:MINE"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{OURS}.limit = many", "(edu.nrao.archive.reingestion.ReingestionSettings.limit) is 'many', not a whole"),
        (f"{OURS}.limit = 0", "at least 1"),
        (f"{OURS}.limit = 2.5", "not a whole number"),
        (f"{OURS}.interval = nan", "not a number"),
        (f"{OURS}.interval = 3e11", "is 300000000000.0, not a number, at least 1, below 1000000000"),
        (f"{SERVER}.hostname=mq\n{SERVER}.port=70000", "which is no port"),
        (f"{SERVER}.hostname=mq\n{SERVER}.port=-1", "which is no port"),
        (f"{SERVER}.hostname=mq/evil@x", "which is no host"),
        (f"{SERVER}.hostname=mq\\u001b[2J", "which is no host"),
        (f"{DATABASE}.jdbcUrl=jdbc:oracle:thin:@x", "no address that we know"),
        (f"{DATABASE}.jdbcUrl=jdbc:postgresql://u:s3cret@x/y", "no address that we know"),
        ("a = \\u12", "is no property file"),
        ("x" * (capo.LARGEST + 1), "is larger than"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(place: Place, text: str, said: str) -> None:
    """One printable sentence that names the file, and never a secret."""
    file = place.put("second", text)
    with pytest.raises(ConfigError) as raised:
        place.load()
    assert said in str(raised.value)
    assert str(file) in str(raised.value)
    assert str(raised.value).isprintable()
    assert "s3cret" not in str(raised.value)


def test_a_profile_that_is_nowhere(place: Place) -> None:
    """The folders that were tried are named; what is no name is refused before."""
    with pytest.raises(ConfigError, match=f"none of {place.folder}/first, {place.folder}/second, .*/home/.capo$"):
        place.load()
    for wrong in ("../../etc/x", ".x", "a\x1bb"):
        with pytest.raises(ConfigError, match="capo_profile"):
            place.load(AOGCONSOLE_REINGESTION__CAPO_PROFILE=wrong)
    (place.folder / "first" / "naasc-test.properties").mkdir(parents=True)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        place.load()
    place.toml.write_text("")
    assert place.load().settings.reingestion.limit == 4


def test_what_is_wrong_stops_reingestion_only(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The desk goes on; `config check` and `config show` end with exit code 3, the latter after it has shown all."""
    for name, value in place.environ.items():
        monkeypatch.setenv(name, value)
    place.put("first", f"{OURS}.attempts=7\n{OURS}.limit=0\n")
    loaded = config.load(place.toml)
    assert loaded.settings.reingestion.attempts == 3  # nothing of it is half taken
    for needed in ("metadata.dsn", "broker.url", "reingestion.interval"):
        with pytest.raises(ConfigError, match="at least 1"):
            loaded.need(needed)
    with pytest.raises(ConfigError, match="at least 1"):
        reingestionsite.limits(loaded, Queue.ALMA)
    loaded.need("staging.host")
    check, show = call(place.toml, "config", "check"), call(place.toml, "config", "show", "--json")
    assert (check.code, check.out, show.code) == (3, b"", 3)
    assert len(show.json) == len(loaded.values)
    assert check.err == show.err
    assert b"limit) is 0, not a whole number, at least 1" in check.err
    assert call(place.toml, "requests").code == 0


def test_a_byte_order_mark_is_no_part_of_the_first_key(place: Place) -> None:
    """As Windows' editors write it."""
    place.put("first", f"\ufeff{OURS}.attempts = 6\n")
    assert place.load().settings.reingestion.attempts == 6


def test_comments_and_lines_that_go_on(place: Place) -> None:
    """`;`, `#` and `!` begin a comment, also behind blanks; not on a line that goes on another."""
    place.put("first", f";a=1\n  ; b\\\n#c\\\n!{OURS}.limit=9\n{OURS}.attempts = \\\n   6\nx = 1\\\n;{OURS}.limit=2\n")
    found = capo.read("naasc-test", place.environ)
    assert {key: one.value for key, one in found.items()} == {f"{OURS.lower()}.attempts": "6", "x": f"1;{OURS}.limit=2"}


@examples(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes the reader fail in another way than it should."""
    lines = list(capo._without_comments(text.splitlines()))
    assert len(lines) <= len(text.splitlines())
    with suppress(ConfigError):
        capo._pairs(text, Path("x"))


def test_latin_1_is_read_as_java_writes_it(place: Place) -> None:
    """What is no UTF-8 is Latin-1."""
    place.put("first", f"{SERVER}.hostname=mq\n{SERVER}.password=gr\xfc\xdfe".encode("latin-1"))
    assert place.load().secret("broker.password") == "gr\xfc\xdfe"


def test_config_show_tells_the_file_and_hides_secrets(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """`capo FILE` behind each value; passwords are `***`."""
    for name, value in place.environ.items():
        monkeypatch.setenv(name, value)
    file = place.put("second", WHOLE)
    told = {one["key"]: one for one in call(place.toml, "config", "show", "--json").json}
    assert told["reingestion.limit"] == {"key": "reingestion.limit", "value": 9, "source": f"capo {file}"}
    assert told["broker.password"] == {"key": "broker.password", "value": "***", "source": f"capo {file}"}
    text = call(place.toml, "config", "show").out.decode()
    assert f"reingestion.limit = 9    # capo {file}" in text
    assert "cret" not in text + json.dumps(told)


# ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def watched(place: Place) -> tuple[Place, capo.Watcher]:
    """A profile with limit 5, and its watcher."""
    place.put("first", f"{OURS}.limit=5\n{SERVER}.hostname=mq\n{SERVER}.password=one\n")
    return place, capo.Watcher(place.load(), place.load, every=0)


def test_a_changed_file_counts_without_a_restart(
    watched: tuple[Place, capo.Watcher], caplog: pytest.LogCaptureFixture
) -> None:
    """Of files that are there, that come, and that go; what changed is told, and of what needs a restart."""
    place, watcher = watched
    caplog.set_level(logging.INFO, "aogconsole")
    before = watcher.fresh()
    assert watcher.fresh() is before
    place.put("first", f"{OURS}.limit=6\n{SERVER}.hostname=mq\n{SERVER}.password=two\n")
    assert watcher.fresh().settings.reingestion.limit == 6
    assert [one.message.partition(" (")[0] for one in caplog.records] == [
        "broker.password has changed", "reingestion.limit has changed"
    ]  # fmt: skip
    assert "after a restart" in caplog.records[0].message
    assert "two" not in caplog.text
    later = place.put("second", f"{OURS}.limit=7\n")
    assert watcher.fresh().settings.reingestion.limit == 7
    later.unlink()
    assert watcher.fresh().settings.reingestion.limit == 6
    place.toml.write_text('[reingestion]\ncapo_profile = "naasc-test"\nlimit = 1\n')
    place.aged(place.toml)
    assert watcher.fresh().settings.reingestion.limit == 1


def test_a_file_that_became_wrong_keeps_what_was(
    watched: tuple[Place, capo.Watcher], caplog: pytest.LogCaptureFixture
) -> None:
    """One line in the log, not one each round; mended, it counts again."""
    place, watcher = watched
    file = place.put("first", f"{OURS}.limit=lots\n")
    for _ in range(3):
        assert watcher.fresh().settings.reingestion.limit == 5
    assert [str(file) in one.message and "stays as it was" in one.message for one in caplog.records] == [True]
    file.unlink()
    assert watcher.fresh().settings.reingestion.limit == 5
    assert "there is no CAPO profile" in caplog.records[-1].message
    place.put("first", f"{OURS}.limit=8\n")
    assert watcher.fresh().settings.reingestion.limit == 8


def test_the_files_are_looked_at_now_and_then(place: Place) -> None:
    """However often the configuration is asked for: a change counts at the next look."""
    place.put("first", f"{OURS}.limit=5\n")
    watcher = capo.Watcher(place.load(), place.load, every=0.2)
    place.put("first", f"{OURS}.limit=6\n")
    assert watcher.fresh().settings.reingestion.limit == 5
    end = time.monotonic() + 10
    while watcher.fresh().settings.reingestion.limit == 5:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert watcher.fresh().settings.reingestion.limit == 6


def test_a_file_that_is_being_written_is_left_alone(watched: tuple[Place, capo.Watcher]) -> None:
    """An editor empties it first: for half a second it does not count."""
    place, watcher = watched
    file = place.put("first", "")
    os.utime(file)
    assert watcher.fresh().settings.reingestion.limit == 5
    file.write_text(f"{OURS}.limit=6\n")
    place.aged(file)
    assert watcher.fresh().settings.reingestion.limit == 6
