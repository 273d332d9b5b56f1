"""The embedded site, by the command: its day without a screen, a second console, an end that leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from aogconsole.demo.nodes import MARK
from aogconsole.demo.sample import SampleDay
from aogconsole.demo.site import DemoSite

MOUS = "uid___A001_X133d_X1eef"
SECRETS = ("archive.password", "staging/client_ed25519", "staging/host_ed25519")


def environment(folder: Path) -> dict[str, str]:
    """Of a user who has a real site too: nothing of it may reach the demo."""
    return {
        **os.environ, "HOME": str(folder), "TMPDIR": str(folder), "AOGCONSOLE_CONFIG": str(folder / "real.toml"),
        "AOGCONSOLE_STAGING__HOST": "almasciencedev.hq.eso.org",
    }  # fmt: skip


def run(folder: Path, *words: str, program: str = "", expect: int = 0) -> subprocess.CompletedProcess[str]:
    """The command to its end."""
    argv = [sys.executable, *(["-c", program] if program else ["-m", "aogconsole"]), *words]
    done = subprocess.run(
        argv, capture_output=True, text=True, env=environment(folder), stdin=subprocess.DEVNULL, timeout=100,
        check=False,
    )  # fmt: skip
    assert done.returncode == expect, (done.returncode, done.stdout, done.stderr)
    return done


def day(folder: Path, *words: str, expect: int = 0) -> list[dict[str, Any]]:
    """The day without a screen, as told."""
    done = run(folder, "demo", "--headless", "--speed", "1000", "--json", *words, expect=expect)
    told: list[dict[str, Any]] = json.loads(done.stdout)
    return told


def test_a_disk_without_room(tmp_path: Path) -> None:
    """One clear sentence and exit code 4, wherever it is that no more can be written; no server is blamed."""
    for room in (1000, 10_000, 50_000):
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}));"
        program = limit + "from aogconsole.cli.entry import main; main()"
        folder = tmp_path / str(room)
        done = run(tmp_path, "demo", "--headless", "--speed", "1000", "--dir", str(folder), program=program, expect=4)
        assert done.stderr.startswith(f"aogconsole: {folder}"), done.stderr
        assert "Traceback" not in done.stderr


def test_a_mail_without_room_comes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full while the day is on: the late mails are tried again, as a mail server does."""
    fails, deliver = threading.Event(), SampleDay.deliver

    def delivered(self: SampleDay, mail: str, maildir: Path) -> None:
        try:
            deliver(self, mail, maildir)
        except OSError:
            fails.set()
            raise

    monkeypatch.setattr(SampleDay, "deliver", delivered)
    with DemoSite(tmp_path / "demo", speed=100) as site:
        inbox, late = site.folder / "inbox", [one.mail for one in site.day.mails if one.late]
        (inbox / "tmp").rename(inbox / "away")
        assert fails.wait(60)
        (inbox / "away").rename(inbox / "tmp")
        (thread,) = (one for one in threading.enumerate() if one.name == "post")
        thread.join(60)
        assert all(list((inbox / "new").glob(f"*.{mail}")) for mail in late)
    assert list((inbox / "tmp").iterdir()) == []


def processes(folder: Path) -> list[str]:
    """Those that have to do with a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in words:
            found.append(words.replace(b"\0", b" ").decode())
    return found


def on_nodes(folder: Path) -> list[int]:
    """Those that were begun on the nodes of a demo in a folder, or below it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"\0{MARK}={folder}".encode() in b"\0" + path.read_bytes():
                found.append(int(path.parent.name))
    return found


def wait(true: Callable[[], Any], seconds: float = 20) -> Any:
    """Look until it is so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.05)
    pytest.fail("it never was so")


def shorten(folder: Path, *mails: str) -> None:
    """Leave only these mails in the day of a demo's folder."""
    file = folder / "day" / "expected.json"
    file.write_text(json.dumps([one for one in json.loads(file.read_text()) if one["mail"] in mails]))
    for path in (folder / "inbox" / "new").iterdir():
        if not any(path.name.endswith(mail) for mail in mails):
            path.unlink()


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A folder with a day worked to its end, and what was told of it."""
    folder = tmp_path_factory.mktemp("demo")
    return folder / "kept", day(folder, "--dir", str(folder / "kept"))


def test_the_day_ends_as_expected(worked: tuple[Path, list[dict[str, Any]]]) -> None:
    """Each mail of expected.json, in its order: its request's state is the expected one, and null where none comes."""
    folder, told = worked
    expected = json.loads((folder / "day" / "expected.json").read_text())
    assert [(one["mail"], one["expected"]) for one in told] == [(one["mail"], one["expected"]) for one in expected]
    assert all(one["state"] == one["expected"] and one["why"] is None for one in told)
    assert {one["state"] for one in told if one["request"] is None} == {"ignored", "duplicate"}
    assert {one["state"] for one in told if one["request"] is not None} == {"closed", "held", "unclear"}


def test_the_runs_spoke_as_real_ones_do(worked: tuple[Path, list[dict[str, Any]]]) -> None:
    """Every milestone there is: RHEL5, re-use, rsync's numbers; one run failed; both slots were used, no third."""
    folder, _ = worked
    runs = json.loads(run(folder.parent, "--config", str(folder / "config.toml"), "runs", "--json").stdout)
    assert sorted(one["state"] for one in runs) == ["failed", *["succeeded"] * 9]
    kinds = [{mark["kind"] for mark in one["milestones"]} for one in runs]
    assert [sum(kind in one for one in kinds) for kind in ("rhel5", "reusing", "regenerating", "failed")] == [
        1,
        1,
        9,
        1,
    ]
    assert all({"url", "node", "host", "workdir", "execution_block"} <= one for one in kinds)
    assert all(
        {"copying", "file", "received", "total", "completed", "deletion"} <= one for one in kinds if "failed" not in one
    )
    assert {one["slot"] for one in runs} == {"A", "B"}
    times = [(one["started_at"], one["ended_at"]) for one in runs]
    assert all(sum(begun < other < ended for other, _ in times) <= 2 for begun, ended in times)


def items(folder: Path) -> list[dict[str, Any]]:
    """The tracking table, the first row first."""
    told = run(folder.parent, "--config", str(folder / "config.toml"), "reingestion", "items", "--json").stdout
    return sorted(json.loads(told), key=lambda one: int(one["id"]))


def test_the_reingestion_ends_as_expected(worked: tuple[Path, list[dict[str, Any]]]) -> None:
    """Every item of reingestion.json, each of its versions, by real workflows; what they filled is marked."""
    folder, _ = worked
    found = items(folder)
    expected = json.loads((folder / "day" / "reingestion.json").read_text())["expected"]
    assert {one["uid"]: one["expected"] for one in expected} == {
        uid: [one["state"] for one in found if one["uid"] == uid] for uid in {one["uid"] for one in found}
    }
    assert {one["uid"]: one["attempt"] for one in found if one["attempt"] > 1} == {
        "uid___A002_X2f146f_X6f": 2, "uid___A002_Xb8e115_X1f82": 2, "uid___A002_X30a93d_X43e": 2
    }  # fmt: skip
    with contextlib.closing(sqlite3.connect(folder / "state" / "metadata.db")) as metadata:
        marks = dict(metadata.execute("select uid, calibration_status from execution_blocks"))
        heard = metadata.execute("select count(*) from reingestion_event where why = 'complete, by its event'")
        assert heard.fetchone()[0] > 0
    assert marks == {
        "uid://A002/Xd6ebab/Xd773": "Calibrated", "uid://A002/X7e4988/X1f2": "Calibrated",
        "uid://A002/X11f3a5a/X2c7": "Calibrated", "uid://A002/Xc845c0/X35a5": "Calibrated",
        "uid://A002/Xb87877/X47a0": "Do Not Calibrate", "uid://A002/X30a93d/X43e": None,
    }  # fmt: skip


def test_hostile_words_stay_text(worked: tuple[Path, list[dict[str, Any]]]) -> None:
    """No letter has a header that a mail smuggled in, and no command prints a control character of a mail or name."""
    folder, told = worked
    letters = [message_from_bytes(path.read_bytes()) for path in (folder / "outbox" / "new").iterdir()]
    assert len(letters) == 15
    assert not [one for one in letters if one["Bcc"] or "evil" in f"{one['To']} {one['Cc']}"]
    shown = run(folder.parent, "--config", str(folder / "config.toml"), "mails").stdout
    for one in told:
        if one["mail"].startswith(("14", "17", "18")):
            shown += run(folder.parent, "--config", str(folder / "config.toml"), "show", one["request"]).stdout
    assert not {letter for letter in shown if letter != "\n" and not letter.isprintable()}
    assert r"\x1b]0;owned\x07" in shown


def test_the_day_goes_on_where_it_was_left(worked: tuple[Path, list[dict[str, Any]]]) -> None:
    """A second start in the same folder does nothing again, and has the same host key; secrets are for us alone."""
    folder, told = worked
    key = (folder / "staging" / "known_hosts").read_text().split()[1:]
    letters, rows = len(list((folder / "outbox" / "new").iterdir())), items(folder)
    assert day(folder.parent, "--dir", str(folder)) == told
    assert len(list((folder / "outbox" / "new").iterdir())) == letters
    assert (folder / "staging" / "known_hosts").read_text().split()[1:] == key
    assert items(folder) == rows
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in SECRETS} == {0o600}
    assert processes(folder) == []


@pytest.mark.parametrize(
    ("changed", "to", "told"),
    [("closed", "held", "state is closed, not held"), ("pi", "public", "ground is pi, not public"),
     ("link", "expert", "letters is ['link'], not ['expert']")],
)  # fmt: skip
def test_a_wrong_expectation_is_caught(
    worked: tuple[Path, list[dict[str, Any]]], changed: str, to: str, told: str
) -> None:
    """With another state, ground or letter expected of one mail, the day ends with 1, and says which and why."""
    folder, _ = worked
    file = folder / "day" / "expected.json"
    right = file.read_text()
    try:
        file.write_text(right.replace(f'"{changed}"', f'"{to}"', 1))
        found = day(folder.parent, "--dir", str(folder), expect=1)
    finally:
        file.write_text(right)
    assert [(one["mail"], one["why"]) for one in found if one["why"]] == [("01-pi.eml", told)]


def test_a_wrong_expectation_of_an_item_is_caught(worked: tuple[Path, list[dict[str, Any]]]) -> None:
    """The day ends with 1 and says on standard error what is otherwise; the list of mails is as ever."""
    folder, told = worked
    file = folder / "day" / "reingestion.json"
    right = file.read_text()
    try:
        file.write_text(
            right.replace('["do_not_calibrate"]', '["done"]').replace('"reason": "trunc', '"reason": "Trunc')
        )
        words = ("demo", "--headless", "--speed", "1000", "--json", "--dir", str(folder))
        done = run(folder.parent, *words, expect=1)
    finally:
        file.write_text(right)
    assert json.loads(done.stdout) == told
    assert "uid://A001/X879/Xea is do_not_calibrate, not done\n" in done.stderr
    assert "uid://A002/X2f146f/X6f is dead because 'The ASDM's table" in done.stderr
    assert done.stderr.count("\n") == 2


def test_a_demo_that_was_killed_takes_its_reingestion_up(tmp_path: Path) -> None:
    """Killed while a workflow runs: what had arrived is there again, and the item is tried once more."""
    folder = tmp_path / "kept"
    with DemoSite(folder, speed=1, at_once=True):
        shorten(folder, "12-no-request.eml")
    file = folder / "day" / "reingestion.json"
    whole = json.loads(file.read_text())
    step = {"what": "One.", "blocks": whole["arrivals"][0]["blocks"][:1]}
    file.write_text(json.dumps({"arrivals": [step], "expected": whole["expected"][:1]}))
    argv = [sys.executable, "-m", "aogconsole", "demo", "--headless", "--speed", "5", "--dir", str(folder)]
    demo = subprocess.Popen(argv, env=environment(tmp_path), stdout=subprocess.DEVNULL)
    wait(lambda: any("execution-block" in line for line in processes(tmp_path)))
    demo.kill()
    demo.wait()
    wait(lambda: processes(tmp_path) == [])
    (told,) = day(tmp_path, "--dir", str(folder))
    assert told["state"] == "ignored"
    (row,) = items(folder)
    assert (row["state"], row["attempt"]) == ("done", 2)
    assert processes(tmp_path) == []


def test_consoles_beside_it_and_a_run_that_outlives_it(tmp_path: Path) -> None:
    """Others work with its configuration meanwhile; a run that goes on when it ends is taken up by the next start."""
    folder = tmp_path / "kept"
    config = str(folder / "config.toml")
    with DemoSite(folder, speed=1, at_once=True) as site:
        assert site.fresh
        shorten(folder, "01-pi.eml")
        again = run(tmp_path, "demo", "--dir", str(folder), "--headless", expect=5)
        assert f"aogconsole --config {config}" in again.stderr
        checks = json.loads(run(tmp_path, "--config", config, "doctor", "--json", program=PLAIN).stdout)
        assert all(one["ok"] for one in checks)
        run(tmp_path, "--config", config, "serve", "--until-idle", program=PLAIN)
        (request,) = json.loads(run(tmp_path, "--config", config, "requests", "--json", program=PLAIN).stdout)
        run(tmp_path, "--config", config, "stage", request["id"], program=PLAIN)
        argv = [sys.executable, "-c", PLAIN, "--config", config, "serve"]
        engine = subprocess.Popen(argv, env=environment(tmp_path), stderr=subprocess.DEVNULL)
        log = folder / "staging" / "home" / ".aogconsole"
        wait(lambda: any(b"hifa_" in path.read_bytes() for path in log.glob("*/log")))
    engine.terminate()
    assert engine.wait(20) == 0
    assert sum("wrapper" in line for line in processes(folder)) == 1
    (told,) = day(tmp_path, "--dir", str(folder))
    assert (told["request"], told["state"]) == (request["id"], "closed")
    assert len(list(log.glob("*/log"))) == 1, "it was started twice"
    assert processes(folder) == []


PLAIN = """
import os
for name in [name for name in os.environ if name.startswith("AOGCONSOLE_")]:
    del os.environ[name]
from aogconsole.cli.root import main
main()
"""
"""The command without the settings of a real site."""


def test_a_temporary_site_leaves_nothing(tmp_path: Path) -> None:
    """Ended by SIGTERM in the midst of two runs and two workflows: no process, here or on a node, and no file."""
    argv = [sys.executable, "-m", "aogconsole", "demo", "--headless"]
    demo = subprocess.Popen(argv, env=environment(tmp_path), stdout=subprocess.DEVNULL)
    wait(lambda: sum("wrapper" in line for line in processes(tmp_path)) == 2)
    wait(lambda: sum("job.sh" in line for line in processes(tmp_path)) == 2)
    wait(lambda: sum("calibrate.sh" in line for line in processes(tmp_path)) >= 2)
    assert on_nodes(tmp_path)
    demo.send_signal(signal.SIGTERM)
    assert demo.wait(20) == 128 + signal.SIGTERM
    assert processes(tmp_path) == []
    assert on_nodes(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--dir", "{file}"), 2, "cannot be used"),
        (("--dir", "{file}/below"), 2, "cannot be used"),
        (("--dir", "/proc/none"), 2, "cannot be used"),
        (("--dir", "{folder}"), 2, "holds other files"),
        (("--speed", "0"), 2, "not in the range"),
        (("--json",), 2, "--json is for --headless"),
    ],
)  # fmt: skip
def test_bad_words_are_told(tmp_path: Path, words: tuple[str, ...], code: int, told: str) -> None:
    """A folder that cannot be one, a speed that is none: one sentence, and nothing is written."""
    file = tmp_path / "file"
    file.touch()
    done = run(tmp_path, "demo", *(word.format(file=file, folder=tmp_path) for word in words), expect=code)
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ("sys.modules['seerdb'] = None", "bash .ci/demo"),
        (
            "import socket; socket.socket.listen = lambda *_: (_ for _ in ()).throw(OSError(98, 'taken'))",
            "cannot listen",
        ),
        ("import shutil; shutil.which = lambda *_, **__: None", "apt-get install openssh-client rsync"),
    ],
)
def test_what_is_missing_is_told(tmp_path: Path, spoil: str, told: str) -> None:
    """Without seerdb, a port, or ssh and rsync: exit code 3, how to mend it, and nothing left behind."""
    program = f"import sys\n{spoil}\nfrom aogconsole.cli.root import main\nmain()"
    done = run(tmp_path, "demo", "--headless", program=program, expect=3)
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
