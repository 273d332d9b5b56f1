"""Expiring staged data: on a web root of a thousand directories with odd ones among them, only what it should."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aogconsole.errors import ConfigError
from aogconsole.stagecalms import deleting, expiring
from aogconsole.stagecalms.expiring import Decision, Done, Entry, decide, expire

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAYS = 28


def name_of(number: int) -> str:
    """A staging directory's name."""
    return f"{number:032x}"


def age(path: Path, days: float) -> None:
    """Let it have been changed so many days ago."""
    at = (NOW - timedelta(days=days)).timestamp()
    os.utime(path, (at, at), follow_symlinks=False)


def put(web_root: Path, name: str, days: float, *, mark: bool = False) -> Path:
    """A staged directory with a tar and a log."""
    directory = web_root / name
    directory.mkdir()
    (directory / "uid___A002_X1_X2.ms.split.cal.tar").write_bytes(b"tar")
    (directory / "logs").mkdir()
    (directory / "logs" / "casa.log").write_bytes(b"log")
    if mark:
        (directory / ".donotremove").touch()
    age(directory, days)
    return directory


@pytest.fixture
def web_root(tmp_path: Path) -> Path:
    """An empty one."""
    path = tmp_path / "preview"
    path.mkdir()
    return path


def run(web_root: Path, live: frozenset[str] = frozenset(), *, dry_run: bool = False) -> dict[str, Decision]:
    """All decisions by name."""
    return {one.name: one for one in expire(web_root, DAYS, live, NOW, dry_run=dry_run)}


def dones(found: dict[str, Decision]) -> dict[str, Done]:
    """What was done, by name."""
    return {name: one.done for name, one in found.items()}


def furnish(web_root: Path, outside: Path) -> dict[str, Done]:
    """A thousand directories, and everything odd beside them. Returns what is to be done with each."""
    wanted: dict[str, Done] = {}
    for number in range(1000):
        due, mark = number % 2 == 0, number % 10 == 4
        put(web_root, name_of(number), 40 if due else number % 28, mark=mark)
        wanted[name_of(number)] = "kept" if mark else "deleted" if due else "left"

    def odd(name: str, done: Done) -> Path:
        wanted[name] = done
        return web_root / name

    for name in ("index.html", "A" * 32, "a" * 31, "a" * 33, "ab" * 15 + "zz", ".deleting-abc", "  ", "\x1b]0;x\x07"):
        put(web_root, name, 400)
        wanted[name] = "left"
    odd(os.fsdecode(b"\xff\xfe"), "left").mkdir()
    odd(name_of(2001), "left").write_bytes(b"a file")
    age(web_root / name_of(2001), 400)
    odd(name_of(2002), "left").symlink_to(outside)
    odd(name_of(2003), "left").symlink_to(name_of(2))
    odd(name_of(2004), "left").symlink_to("nowhere")
    for number in (2002, 2003, 2004):
        age(web_root / name_of(number), 400)
    wanted[name_of(2005)] = "left"
    put(web_root, name_of(2005), -1)  # the clock that wrote it was a day ahead
    wanted[name_of(2006)] = "left"
    put(web_root, name_of(2006), 400)  # a run is working on it
    os.mkfifo(odd(name_of(2007), "left"))
    for number in (2010, 2011, 2012):
        directory = put(web_root, name_of(number), 400)
        mark_path = directory / ".donotremove"
        if number == 2010:
            mark_path.mkdir()
        else:
            mark_path.symlink_to("nowhere" if number == 2011 else outside)
        age(directory, 400)
        wanted[name_of(number)] = "kept"
    # what leads out of a directory that is deleted
    directory = put(web_root, name_of(2020), 400)
    (directory / "out").symlink_to(outside)
    (directory / "logs" / "up").symlink_to("../..")
    os.link(outside / "precious", directory / "hard")
    (directory / "logs").chmod(0o750)
    age(directory, 400)
    wanted[name_of(2020)] = "deleted"
    # deletions that were not finished
    put(web_root, f".deleting-{name_of(2030)}", 1)
    put(web_root, f".deleting-{name_of(2031)}", 1, mark=True)
    wanted |= {f".deleting-{name_of(2030)}": "deleted", f".deleting-{name_of(2031)}": "kept"}
    put(web_root, name_of(2032), DAYS - 0.01)
    put(web_root, name_of(2033), DAYS + 0.01)
    return wanted | {name_of(2032): "left", name_of(2033): "deleted"}


def test_only_what_it_should(web_root: Path, tmp_path: Path) -> None:
    """1,000 staged directories and everything odd beside them; nothing outside is touched."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    wanted = furnish(web_root, outside)
    live = frozenset({name_of(2006)})
    before = set(os.listdir(web_root))
    tried = run(web_root, live, dry_run=True)
    assert set(os.listdir(web_root)) == before
    assert {name: "deleted" if done == "would delete" else done for name, done in dones(tried).items()} == wanted
    began = time.perf_counter()
    found = run(web_root, live)
    assert time.perf_counter() - began < 20
    assert dones(found) == wanted
    stay = {name for name, done in wanted.items() if done != "deleted"}
    # its deletion had not begun when somebody wanted to keep it
    stay = stay - {f".deleting-{name_of(2031)}"} | {name_of(2031)}
    assert set(os.listdir(web_root)) == stay
    assert all(
        (web_root / name / ".donotremove").is_file()
        for name in stay
        if wanted.get(name) == "kept" and int(name, 16) < 1000
    )
    assert (outside / "precious").read_bytes() == b"precious"
    assert os.listdir(outside) == ["precious"]
    assert all(line.line.isprintable() for line in found.values())
    assert dones(run(web_root, live)) == {name: wanted.get(name, "kept") for name in stay}, "again: nothing more"


def test_the_lines_say_what_and_why(web_root: Path) -> None:
    """A line each; days are whole ones, times UTC."""
    for number, days in enumerate((52, 28, 27.9, 1, 0, -2)):
        put(web_root, name_of(number), days)
    put(web_root, name_of(6), 60).chmod(0o700)
    put(web_root, name_of(7), 60, mark=True)
    assert [one.line for one in expire(web_root, DAYS, (), NOW, dry_run=True)] == [
        f"would delete {name_of(0)}: staged 2026-10-01 12:00 UTC, 52 days ago, kept 28",
        f"would delete {name_of(1)}: staged 2026-10-25 12:00 UTC, 28 days ago, kept 28",
        f"left {name_of(2)}: staged 2026-10-25 14:24 UTC, 27 days ago, kept 28",
        f"left {name_of(3)}: staged 2026-11-21 12:00 UTC, 1 day ago, kept 28",
        f"left {name_of(4)}: staged 2026-11-22 12:00 UTC, 0 days ago, kept 28",
        f"left {name_of(5)}: staged 2026-11-24 12:00 UTC, which is to come: see the host's clock",
        f"would delete {name_of(6)}: incomplete since 2026-09-23 12:00 UTC, 60 days ago, kept 28",
        f"kept {name_of(7)}: .donotremove is in it",
    ]
    assert next(expire(web_root, DAYS, (), NOW, dry_run=False)).line.startswith(f"deleted {name_of(0)}: staged 2026-")


def test_a_link_as_the_root_is_followed_and_a_missing_one_told(web_root: Path, tmp_path: Path) -> None:
    """The root is what the configuration names; below it no link is."""
    (tmp_path / "link").symlink_to(web_root)
    put(web_root, name_of(1), 40)
    assert dones(run(tmp_path / "link")) == {name_of(1): "deleted"}
    with pytest.raises(ConfigError, match="cannot be read"):
        run(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be read"):
        run(tmp_path / "file")


def test_a_mark_put_there_in_the_moment_of_deletion_is_seen(web_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the look and before the directory is out of reach: it stays as it was, with its time."""
    directory = put(web_root, name_of(1), 40)
    before = directory.stat().st_mtime
    rename = os.rename

    def marking(source: str, target: str, **rest: int) -> None:
        if target.startswith(".deleting-"):
            (directory / ".donotremove").touch()
            age(directory, 40)
        rename(source, target, **rest)

    monkeypatch.setattr(os, "rename", marking)
    assert dones(run(web_root)) == {name_of(1): "kept"}
    assert sorted(os.listdir(directory)) == [".donotremove", "logs", "uid___A002_X1_X2.ms.split.cal.tar"]
    assert directory.stat().st_mtime == before


def test_what_goes_meanwhile_stops_nothing(web_root: Path) -> None:
    """Somebody else deletes beside us."""
    put(web_root, name_of(1), 40)
    gone = put(web_root, name_of(2), 40)
    put(web_root, name_of(3), 40)
    decisions = expire(web_root, DAYS, (), NOW, dry_run=False)
    assert next(decisions).name == name_of(1)
    shutil.rmtree(gone)
    assert [one.name for one in decisions] == [name_of(3)]


def test_two_at_once(web_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other has just deleted is no failure."""
    put(web_root, name_of(1), 40)
    gone = put(web_root, name_of(2), 40)
    rename = os.rename

    def late(source: str, target: str, **rest: int) -> None:
        if source == gone.name:
            shutil.rmtree(gone)
        rename(source, target, **rest)

    monkeypatch.setattr(os, "rename", late)
    assert dones(run(web_root)) == {name_of(1): "deleted"}


def test_a_mount_is_not_crossed(web_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside or on the directory; one that only begins with its name is another's."""
    inside, on, beside = (put(web_root, name_of(number), 40) for number in (1, 2, 3))
    mounts = tmp_path / "mountinfo"
    points = [inside / "logs", on, f"{beside}x", "/with\\040blank"]
    mounts.write_text("".join(f"36 35 98:0 /m {point} rw - ext3 /dev/r rw\n" for point in points))
    monkeypatch.setattr(deleting, "MOUNTS", mounts)
    assert dones(run(web_root)) == {name_of(1): "left", name_of(2): "left", name_of(3): "deleted"}
    assert (inside / "logs" / "casa.log").exists()


def test_a_real_mount_is_seen(web_root: Path) -> None:
    """What the kernel tells of /proc."""
    with deleting.opened(Path("/")) as folder:
        assert deleting.mounted(folder, "proc")
    put(web_root, name_of(1), 40)
    with deleting.opened(web_root) as folder:
        assert not deleting.mounted(folder, name_of(1))


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (300_000_000_000, "staged 300000000000 seconds from 1970, which is to come: see the host's clock"),
        (-70_000_000_000, "staged -70000000000 seconds from 1970, which cannot be right"),
    ],
)
def test_a_time_that_no_calendar_has(web_root: Path, seconds: int, told: str) -> None:
    """Told, and left, by whatever file system can hold it."""
    whole = list(put(web_root, name_of(1), 40).stat())
    whole[8] = seconds
    entry = Entry(name_of(1), os.stat_result(whole), kept=False, mounted=False)
    decision = decide(entry, DAYS, (), NOW)
    assert decision == Decision(name_of(1), "left", told)


def test_more_days_than_a_calendar_has(web_root: Path) -> None:
    """Nothing is so old."""
    put(web_root, name_of(1), 4000)
    assert [one.done for one in expire(web_root, 10**12, (), NOW, dry_run=False)] == ["left"]


APART = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from aogconsole.stagecalms.expiring import expire

now = datetime.fromisoformat(sys.argv[2])
for one in expire(Path(sys.argv[1]), 28, (), now, dry_run=False):
    print(one.done, one.name, one.why, sep="|")
"""


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Path]:
    """A web root in which something cannot be deleted."""
    path = tmp_path / "theirs"
    path.mkdir()
    yield path
    subprocess.run(["chmod", "-R", "u+rwX", path], check=True)


def test_what_cannot_be_deleted_is_told_and_the_rest_goes_on(theirs: Path) -> None:
    """Other accounts' directories (only root can make some), and closed ones; what is closed in them is opened."""
    drop = []
    closed, shut, _ = (put(theirs, name_of(number), 40) for number in (1, 2, 3))
    expected: dict[str, Done] = {name_of(1): "failed", name_of(2): "deleted", name_of(3): "deleted"}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        drop = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]  # a root for whom modes hold
        put(theirs, name_of(4), 40)
        put(theirs, name_of(5), 40)
        expected |= {name_of(4): "left", name_of(5): "failed"}
        for path in (theirs / name_of(4), *(theirs / name_of(4)).rglob("*"), theirs / name_of(5) / "logs"):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    for mode in (0o500, 0):
        deep = shut / "logs" / f"{mode:o}" / "deep"
        deep.mkdir(parents=True)
        (deep / "casa.log").touch()
        (deep / "out").symlink_to(closed)
        deep.chmod(mode)
        deep.parent.chmod(mode)
    (shut / "logs").chmod(0)
    closed.chmod(0)
    for name in expected:
        age(theirs / name, 40)
    argv = [*drop, sys.executable, "-c", APART, str(theirs), NOW.isoformat()]
    for _ in range(2):
        done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=Path.cwd())
        assert done.returncode == 0, done.stderr
        told = [line.split("|") for line in done.stdout.splitlines()]
        assert {name.removeprefix(".deleting-"): what for what, name, _ in told} == expected
        why = {name.removeprefix(".deleting-"): because for _, name, because in told}
        assert "Permission denied" in why[name_of(1)]
        for name in (name_of(2), name_of(3)):
            expected.pop(name, None)
    assert closed.stat().st_mode & 0o777 == 0
    if os.geteuid() == 0:
        assert why[name_of(4)] == "it belongs to another account"
        assert "logs/casa.log: Permission denied" in why[name_of(5)]
        left = theirs / f".deleting-{name_of(5)}"
        assert [path.name for path in left.iterdir()] == ["logs"]
        assert left.stat().st_mode & 0o777 == 0o700, "what has lost something is closed"
        assert (left / "logs" / "casa.log").exists()


@pytest.mark.parametrize("fault", ["sees no mark", "knows no live run"])
def test_a_careless_one_is_caught(web_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """The big test notices an expiry that keeps its word but for one fault."""
    decide = expiring.decide
    if fault == "sees no mark":
        monkeypatch.setattr(expiring, "kept", lambda *_: False)
    else:
        monkeypatch.setattr(expiring, "decide", lambda entry, days, _live, now: decide(entry, days, (), now))
    with pytest.raises(AssertionError):
        test_only_what_it_should(web_root, tmp_path)
