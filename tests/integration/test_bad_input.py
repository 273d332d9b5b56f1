"""Bad input: one clear sentence with what to do, the right exit code, nothing lost."""

from __future__ import annotations

import io
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from aogconsole.cli.root import COMMANDS, main
from tests.support.command import Done, call
from tests.support.desk import Desk, request_mail
from tests.support.sshd import make_keys

CONFIG = """
[journal]
path = "state/journal.db"
syslog = ""
[archive]
dsn = "127.0.0.1:1/ALMA"
timeout = 2
[staging]
host = "127.0.0.1"
port = 1
[mail]
inbox = "maildir:inbox"
outgoing = "maildir:outbox"
"""
ACTING = {
    "ingest": ["-"], "recheck": ["1"], "stage": ["1"], "refuse": ["1"], "hold": ["1", "--why", "x"], "release": ["1"],
    "rerun": ["1", "--why", "x"], "close": ["1", "--why", "x"], "reopen": ["1", "--why", "x"],
    "correct": ["1", "--ticket", "2", "--why", "x"], "note": ["1", "x"], "claim": ["1"], "move": ["1", "1"],
    "stop": ["1", "--why", "x"], "keep": ["1"], "edit": ["1"], "approve": ["1"], "send": ["1"],
    "resend": ["1", "--why", "x"], "discard": ["1"], "serve": [], "pause": [], "resume": [],
    "loader": ["--once"], "runner": ["--until-idle"], "workflow": ["execution-block", "uid___A002_X1_X1"],
    "reingestion": ["add", "--kind", "calibration", "--uid", "uid___A001_X1_X1"], "broker": ["declare"],
}  # fmt: skip
"""The verbs that change something, with words that a site could have."""
LOOKING = {"mails", "requests", "runs", "letters", "staged", "history", "handover"}
OTHERS = {
    "compose",
    "show",
    "check",
    "run",
    "log",
    "letter",
    "backup",
    "doctor",
    "config",
    "aogremote",
    "completion",
} | {
    "demo",
    "web",
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose servers are not there."""
    file = tmp_path / "config.toml"
    file.write_text(CONFIG)
    return file


@pytest.fixture
def taken(config: Path) -> Path:
    """The same, with one request in the journal: mail 1, request 2."""
    assert call(config, "ingest", "-", stdin=request_mail()).code == 0
    return config


def complaint(done: Done, code: int) -> str:
    """What was said: one sentence and a line with what to do, nothing on standard output, no traceback."""
    text = done.err.decode()
    assert done.code == code, text
    assert done.out == b""
    first, second = text.splitlines()
    assert first.startswith("aogconsole: ")
    assert second.startswith("  ")
    assert len(second) > 5
    assert (first + second).isprintable()
    assert "Traceback" not in text
    return text


def mails(config: Path) -> list[str]:
    """The results of the mails in the journal, which verifies."""
    assert call(config, "history", "--verify", "--json").json["ok"]
    return [str(one["result"]) for one in call(config, "mails", "--json").json]


def test_every_verb_is_of_one_kind() -> None:
    """A new verb is put among those that act or those that look, and tried here."""
    assert {*ACTING, *LOOKING, *OTHERS} == set(COMMANDS)


# ── the configuration ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def unconfigured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., Done]:
    """The command of an account that has no configuration yet, with an empty home."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("AOGCONSOLE_CONFIG", raising=False)

    def called(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["aogconsole", *words])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(request_mail())))
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(int(ended.value.code or 0), *capsysbinary.readouterr())

    return called


def test_acting_without_a_configuration_is_refused(tmp_path: Path, unconfigured: Callable[..., Done]) -> None:
    """Each verb that acts: exit code 3, and how to make one; nothing is made."""
    for verb, words in ACTING.items():
        assert "config init" in complaint(unconfigured(verb, *words), 3), verb
    assert list(tmp_path.iterdir()) == []


def test_looking_without_a_configuration_uses_the_defaults(tmp_path: Path, unconfigured: Callable[..., Done]) -> None:
    """Each verb that lists: exit code 0, nothing in the list, and a word that there is no journal yet."""
    for verb in sorted(LOOKING):
        done = unconfigured(verb, "--json")
        assert done.code == 0, verb
        assert verb == "handover" or done.json == []
        assert b"there is no journal yet" in done.err
    assert list(tmp_path.iterdir()) == []


def run(
    config: Path, *words: str, stdin: bytes = b"", before: Sequence[str] = (), limit: Callable[[], None] | None = None
) -> Done:
    """The command as a program of its own."""
    done = subprocess.run(
        [*before, sys.executable, "-m", "aogconsole", "--config", str(config), *words], input=stdin, preexec_fn=limit,
         capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def test_a_wrong_configuration_stops_every_verb_alike(config: Path) -> None:
    """Exit code 3 whatever the verb, the key named."""
    config.write_text(CONFIG + "[staging.x]\nprot = 22\n")
    for words in (["requests"], ["serve"], ["doctor"], ["ingest", "-"], ["config", "check"]):
        assert "staging.x" in complaint(call(config, *words), 3)
    config.write_text(CONFIG.replace("maildir:inbox", ""))
    assert "mail.inbox is not set" in complaint(call(config, "serve"), 3)


def test_a_password_that_cannot_be_had_stops_serve_at_once(config: Path) -> None:
    """Before the first step: exit code 3, so that systemd does not start it again and again."""
    config.write_text(CONFIG.replace("timeout = 2", 'password = "file:missing"'))
    assert "archive.password" in complaint(call(config, "serve"), 3)


# ── the journal ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_newer_journal_is_left_alone(taken: Path) -> None:
    """Reading and acting end with exit code 3, and nothing of it changes."""
    journal = taken.parent / "state" / "journal.db"
    with sqlite3.connect(journal) as newer:
        newer.execute("pragma user_version = 99")
    before = list(newer.iterdump())
    for words in (["requests"], ["hold", "2", "--why", "x"], ["ingest", "-"], ["serve"]):
        assert "newer aogconsole" in complaint(call(taken, *words), 3)
    assert list(newer.iterdump()) == before
    assert newer.execute("pragma user_version").fetchone() == (99,)
    newer.close()


def test_what_is_no_journal_is_left_alone(config: Path) -> None:
    """A text, a database of something else, a folder: told apart from an empty journal, and unchanged."""
    (config.parent / "state").mkdir(mode=0o700)
    journal = config.parent / "state" / "journal.db"
    journal.write_text("no journal " * 200)
    assert "no journal" in complaint(call(config, "requests"), 4)
    assert "no journal" in complaint(call(config, "ingest", "-", stdin=request_mail()), 4)
    assert journal.read_text() == "no journal " * 200
    journal.unlink()
    with sqlite3.connect(journal) as other:
        other.execute("create table request (x)")
    other.close()
    assert "something else" in complaint(call(config, "ingest", "-", stdin=request_mail()), 3)
    journal.unlink()
    journal.mkdir()
    for words in (["requests"], ["ingest", "-"]):
        complaint(call(config, *words), 4)


def without_privileges() -> list[str]:
    """The words that let root run a program which file modes hold for; nobody else needs any."""
    if os.geteuid() != 0:
        return []
    return [str(shutil.which("setpriv")), "--bounding-set=-dac_override,-dac_read_search"]


def test_a_folder_that_is_read_only(taken: Path) -> None:
    """Acting ends with exit code 4 and a word on owner and mode; looking goes on; nothing is lost."""
    folder, words = taken.parent / "state", without_privileges()
    assert run(taken, "note", "2", "before", before=words).code == 0
    journal = folder / "journal.db"
    for path in (journal, folder):
        path.chmod(path.stat().st_mode & 0o555)
    try:
        for verb in (["note", "2", "lost"], ["ingest", "-"]):
            done = run(taken, *verb, before=words, stdin=request_mail(ticket="2"))
            assert "owner" in complaint(done, 4)
        assert run(taken, "requests", before=words).code == 0
    finally:
        folder.chmod(0o700)
        journal.chmod(0o600)
    assert mails(taken) == ["request"]
    assert [note["text"] for note in call(taken, "show", "2", "--json").json["notes"]] == ["before"]


def test_a_disk_that_is_full(taken: Path) -> None:
    """No byte more may be written: exit code 4, nothing half done; with room again the same mail is taken once."""
    big = request_mail(ticket="2") + b"x" * 200_000

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))

    done = run(taken, "ingest", "-", stdin=big, limit=full)
    assert "disk" in complaint(done, 4)
    assert mails(taken) == ["request"]
    assert call(taken, "ingest", "-", stdin=big).code == 0
    assert len(mails(taken)) == 2


def test_standard_output_that_is_full(taken: Path) -> None:
    """Of a list nobody can read the loss is told: exit code 4, not a traceback; a closed pipe is no fault."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "aogconsole", "--config", str(taken), "requests", "--json"], stdout=full,
            stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
    assert "could not be written" in complaint(Done(done.returncode, b"", done.stderr), 4)
    program = f"{sys.executable} -m aogconsole --config {taken} requests --json | :; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


# ── mails from files ─────────────────────────────────────────────────────────────────────────────────────────


def test_files_that_are_no_mail(config: Path) -> None:
    """One that is missing, or a folder: exit code 2 before any is taken. An empty and a binary one are listed."""
    good = config.parent / "good.eml"
    good.write_bytes(request_mail())
    for wrong in (config.parent / "missing", config.parent):
        assert "cannot be read" in complaint(call(config, "ingest", str(good), str(wrong)), 2)
    assert not (config.parent / "state").exists()
    (config.parent / "empty").write_bytes(b"")
    (config.parent / "binary").write_bytes(bytes(range(256)) * 500)
    told = call(config, "ingest", str(config.parent / "empty"), str(config.parent / "binary"), str(good), "--json").json
    assert [one["state"] for one in told] == ["ignored", "ignored", "received"]
    again = call(config, "ingest", "-", "--json", stdin=good.read_bytes()).json
    assert (again[0]["duplicate_of"], again[0]["file"]) == (told[2]["request"], "-")
    assert mails(config) == ["ignored", "ignored", "request", "duplicate"]


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_id_that_is_not_there_or_of_something_else(taken: Path) -> None:
    """Exit code 2; of another kind it says which, and how to list the right ones."""
    looking = [["show"], ["run"], ["letter"], ["log"], ["history"]]
    acting = [[verb, *words] for verb, words in ACTING.items() if words[:1] == ["1"]]
    for words in [*looking, *acting]:
        words[1:2] = ["9"]
        assert "there is no" in complaint(call(taken, *words), 2), words
    assert "1 is a mail, not a request" in complaint(call(taken, "show", "1"), 2)
    assert "2 is a request, not a run" in complaint(call(taken, "log", "2"), 2)


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"], ["show"], ["show", "x"], ["show", "0"], ["show", "99999999999999999999"], ["hold", "2"],
        ["requests", "--state", "open"], ["requests", "--limit", "99999999999999999999"], ["move", "2", "first"],
        ["refuse", "2", "--as", "entitled"], ["completion", "tcsh"], ["--nonsense", "requests"], ["config", "nonsense"],
    ],
)  # fmt: skip
def test_wrong_words_are_usage_errors(taken: Path, words: list[str]) -> None:
    """Exit code 2, how the command is written, and what is wrong; no traceback."""
    done = call(taken, *words)
    assert done.code == 2
    assert b"Usage: " in done.err
    assert b"Error: " in done.err
    assert b"Traceback" not in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check", "X1244", "ann"], "is not a UID"),
        (["check", "uid___A001_X1_X\u0661", "ann"], "is not a UID"),
        (["check", "uid___A001_X1_X1", "ann marie"], "account id"),
        (["check", "uid___A001_X1_X1", "ann", "--project", "2012.1"], "project"),
        (["check", "uid___A001_X1_X1", "ann", "--day", "2026-02-30"], "is not a day"),
        (["correct", "2", "--ticket", "-1", "--why", "x"], "ticket"),
        (["correct", "2", "--why", "x"], "nothing to correct"),
        (["hold", "2", "--why", " "], "reason is missing"),
        (["hold", "2", "--why", "\udcff"], "not valid UTF-8"),
        (["note", "2", "\udcff"], "not valid UTF-8"),
        (["note", "2", " "], "the note is empty"),
        (["move", "2", "0"], "is not one"),
        (["requests", "--search", "\udcff"], "not valid UTF-8"),
        (["ingest", "-", "--received", "yesterday"], "is not a time"),
        (["ingest", "-", "--received", "0001-01-01T00:00:00+23:00"], "is not a time"),
        (["handover", "--since", "yesterday"], "is not a time"),
        (["history", "--verify", "--head", "1:2"], "is not a head"),
        (["backup", "."], "is there already"),
        (["--read-only", "hold", "2", "--why", "x"], "--read-only"),
    ],
)
def test_words_that_mean_nothing_are_named(taken: Path, words: list[str], said: str) -> None:
    """Exit code 2, one sentence, how it is written; the request stays as it was."""
    before = call(taken, "show", "2", "--json").json
    assert said in complaint(call(taken, *words), 2)
    assert call(taken, "show", "2", "--json").json == before


def test_a_letter_text_that_is_not_utf8(desk: Desk) -> None:
    """`edit` refuses it, and the letter stays as it was."""
    desk.configure(policy="ask")
    desk.deliver(request_mail(account="other"))
    desk.serve_until_idle()
    (letter,) = desk.json("letters")
    before = call(desk.config, "letter", letter["id"]).out
    done = call(desk.config, "edit", letter["id"], "--file", str(bytes_in(desk.folder / "text", b"To: a@b\n\n\xff")))
    assert "not UTF-8" in complaint(done, 2)
    assert call(desk.config, "letter", letter["id"]).out == before


def bytes_in(file: Path, data: bytes) -> Path:
    """A file with these bytes."""
    file.write_bytes(data)
    return file


# ── servers ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_archive_that_cannot_be_asked(taken: Path) -> None:
    """`check` ends with exit code 4 and the verdict `unknown`, never with a no."""
    done = call(taken, "check", "uid___A001_X1_X1", "ann", "--json")
    assert (done.code, done.json["verdict"], done.json["facts"]) == (4, "unknown", None)
    assert "cannot be reached" in done.json["why"]


@pytest.mark.parametrize("fault", ["changed key", "no archive", "no mailbox"])
def test_serve_goes_on_while_a_server_is_not_there(desk: Desk, fault: str) -> None:
    """It says which and why, loses nothing, and does the work once the fault is mended."""
    make_keys(desk.folder, "stranger")
    port, known = desk.host.port, desk.folder / "wrong_known_hosts"
    stranger = (desk.folder / "stranger.pub").read_text()
    known.write_text(f"[127.0.0.1]:{port} {stranger}")
    old, new, name, said = {
        "changed key": (str(desk.host.known_hosts), str(known), "staging", "shows another key than"),
        "no archive": (desk.archive.dsn, "127.0.0.1:1/ALMA", "archive", "cannot be reached"),
        "no mailbox": ("maildir:inbox", "maildir:nowhere", "mail", "is no Maildir"),
    }[fault]  # fmt: skip
    desk.configure("auto", "forced", 0, **{old: new})
    desk.deliver(request_mail())
    with desk.serving() as server:
        told = desk.wait(lambda: [one for one in call(desk.config, "handover", "--json").json["connections"]
                                  if one["name"] == name and not one["ok"]])  # fmt: skip
        assert said in told[0]["detail"]
        assert server.poll() is None
    assert desk.calls("15270") == 0
    desk.configure()
    with desk.serving():
        desk.wait(lambda: [one["state"] for one in call(desk.config, "requests", "--json").json] == ["closed"])
    assert desk.calls("15270") == 1
    assert len(desk.filed()) == 1
    assert all(one["ok"] for one in call(desk.config, "handover", "--json").json["connections"])
    assert mails(desk.config) == ["request"]
