"""The journal: conditional changes with their history, safe opening, one id sequence."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aogconsole.errors import ConfigError, Conflict, StorageError, UsageError
from aogconsole.journal import history
from aogconsole.journal.history import Actor
from aogconsole.journal.store import Journal, refuse_network

ANN, BOB = Actor("ann@aog1", "cli 1"), Actor("bob@aog2", "cli 2")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """A new journal."""
    return Journal.open(tmp_path / "journal.db")


def make_request(journal: Journal, state: str = "entitled") -> int:
    """A request with its mail, as intake makes them."""
    with journal.transaction():
        mail, ident = journal.new_id("mail"), journal.new_id("request")
        journal.insert("mail", {
            "id": mail, "source": f"file:{mail}", "message_id": f"<{mail}@x>", "sha256": "",
            "received_at": "2026-11-21T00:00:00Z", "from_address": "a@eso.org", "subject": "s",
            "result": "request", "why": "", "parsed": "{}",
        })  # fmt: skip
        journal.insert(
            "request",
            {"id": ident, "state": state, "mail": mail, "received_at": "2026-11-21T00:00:00Z", "position": 1.0},
        )
        journal.record(ANN, "receive", "request", ident, target=state)
    return ident


def test_a_change_and_its_history_are_one(journal: Journal) -> None:
    """State, version and history row come together, and the chain leads to what is stored."""
    request = make_request(journal)
    journal.change("request", request, ANN, "stage", origins={"entitled"}, target="queued", why="go")
    row = journal.fetch("request", request)
    assert (row["state"], row["version"], row["why"]) == ("queued", 2, "go")
    last = journal.all("select * from history order by seq desc")[0]
    assert (last["who"], last["verb"], last["origin"], last["target"]) == ("ann@aog1", "stage", "entitled", "queued")
    assert history.verify(journal.connection) == []


def test_the_second_to_act_is_told_who_was_first(journal: Journal) -> None:
    """Wrong state, or a version that was seen before somebody else acted: Conflict, and nothing changes."""
    request = make_request(journal)
    journal.change("request", request, ANN, "hold", origins={"entitled"}, target="held")
    with pytest.raises(Conflict, match=r"is held, .*: ann@aog1 did 'hold'"):
        journal.change("request", request, BOB, "stage", origins={"entitled"}, target="queued")
    with pytest.raises(Conflict, match="ann@aog1"):
        journal.change("request", request, BOB, "release", origins={"held"}, target="entitled", seen=1)
    assert journal.fetch("request", request)["version"] == 2


def test_what_fails_inside_a_transaction_leaves_nothing(journal: Journal) -> None:
    """Not the change, not its history row."""
    request = make_request(journal)

    def fail() -> None:
        with journal.transaction():
            journal.change("request", request, ANN, "stage", origins={"entitled"}, target="queued")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert journal.fetch("request", request)["state"] == "entitled"
    assert history.head(journal.connection)[0] == 1


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("update history set why = 'other' where seq = 2", "row 2 is not what was written"),
        ("delete from history where seq = 2", "row 2 is missing"),
        ("update request set state = 'closed'", "is closed, but the history leads to queued"),
        ("delete from history where seq = 3", "was witnessed, is missing"),
    ],
)
def test_tampering_shows(journal: Journal, damage: str, sentence: str) -> None:
    """A changed row, a missing row, a state without history, and a cut end (by a witnessed head)."""
    request = make_request(journal)
    journal.change("request", request, ANN, "stage", origins={"entitled"}, target="queued")
    journal.change("request", request, ANN, "note", origins={"queued"}, target=None)
    witness = history.head(journal.connection)
    journal.connection.execute(damage)
    assert any(sentence in problem for problem in history.verify(journal.connection, witness))


def test_the_head_goes_to_syslog_after_the_commit(tmp_path: Path) -> None:
    """A datagram with number and hash of the newest row: the witness outside."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(tmp_path / "log"))
        syslog.settimeout(5)
        journal = Journal.open(tmp_path / "journal.db", syslog=str(tmp_path / "log"))
        make_request(journal)
        seq, hashed = history.head(journal.connection)
        assert syslog.recv(1000).decode().endswith(f"history head {seq} {hashed}")


def test_an_id_is_of_one_kind_only(journal: Journal) -> None:
    """Asking for a run with a request's id says so."""
    request = make_request(journal)
    with pytest.raises(UsageError, match=f"{request} is a request, not a run"):
        journal.fetch("run", request)
    with pytest.raises(UsageError, match="no request 999"):
        journal.fetch("request", 999)


def test_many_writers_lose_nothing(journal: Journal, tmp_path: Path) -> None:
    """Threads with connections of their own: every change counts once, and the chain holds."""
    request = make_request(journal)

    def write() -> None:
        own = Journal.open(tmp_path / "journal.db")
        for _ in range(20):
            own.change("request", request, BOB, "note", origins={"entitled"}, target=None)
        own.close()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert journal.fetch("request", request)["version"] == 81
    assert history.verify(journal.connection) == []


def test_other_processes_are_noticed_by_data_version(journal: Journal, tmp_path: Path) -> None:
    """A cheap pragma tells that somebody else changed the journal."""
    before = journal.data_version()
    make_request(Journal.open(tmp_path / "journal.db"))
    assert journal.data_version() != before


def test_another_process_that_closes_it_leaves_it_whole(journal: Journal, tmp_path: Path) -> None:
    """Opened twice in one process, SQLite's locks stay: whoever else closes it is not the last, and keeps the log."""
    look = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(*c.execute('select count(*) from request'))"
    argv = [sys.executable, "-c", f"{look}; c.close()", str(journal.path)]
    for number in (1, 2):
        with contextlib.closing(Journal.open(tmp_path / "journal.db")):
            make_request(journal)
        assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == f"({number},)\n"
        assert (tmp_path / "journal.db-wal").exists()


def test_a_newer_journal_is_refused_untouched(tmp_path: Path) -> None:
    """An older program does not write into what it does not understand."""
    Journal.open(tmp_path / "journal.db").close()
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        connection.execute("pragma user_version = 99")
    with pytest.raises(ConfigError, match="newer aogconsole"):
        Journal.open(tmp_path / "journal.db")


def test_nothing_is_written_into_a_journal_that_became_newer(journal: Journal) -> None:
    """A program that had it open when a newer one migrated it changes nothing any more."""
    request = make_request(journal)
    with sqlite3.connect(journal.path) as newer:
        newer.execute("pragma user_version = 99")
    newer.close()
    with pytest.raises(ConfigError, match="newer aogconsole"):
        journal.change("request", request, ANN, "stage", origins={"entitled"}, target="queued", why="go")
    assert journal.fetch("request", request)["state"] == "entitled"


def test_a_journal_that_is_just_being_made_is_empty(tmp_path: Path) -> None:
    """Looking in the moment between the file and its schema is no error."""
    (tmp_path / "journal.db").touch(0o600)
    looking = Journal.open(tmp_path / "journal.db", read_only=True)
    assert looking.all("select * from request") == []
    assert (tmp_path / "journal.db").stat().st_size == 0


def test_a_file_that_is_no_journal_is_told(tmp_path: Path) -> None:
    """Garbage, and a database of something else."""
    (tmp_path / "a.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageError, match="not a database"):
        Journal.open(tmp_path / "a.db")
    with sqlite3.connect(tmp_path / "b.db") as connection:
        connection.execute("create table request (x)")
    with pytest.raises(ConfigError, match="something else"):
        Journal.open(tmp_path / "b.db")


def test_nobody_else_reads_the_journal(tmp_path: Path) -> None:
    """0600 and 0700, also when the file was there with a wider mode."""
    path = tmp_path / "state" / "journal.db"
    Journal.open(path).close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert (path.parent / "runs").stat().st_mode & 0o777 == 0o700
    path.chmod(0o644)
    Journal.open(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_group_shares_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files 0660 and folders 2770 of the group."""
    import grp

    group = grp.getgrgid(os.getgid()).gr_name
    path = tmp_path / "state" / "journal.db"
    Journal.open(path, group=group).close()
    assert path.stat().st_mode & 0o777 == 0o660
    assert path.parent.stat().st_mode & 0o7777 == 0o2770
    with pytest.raises(ConfigError, match="no group"):
        Journal.open(tmp_path / "other" / "journal.db", group="no such group")
    (path.parent / "runs").chmod(0o2750)
    Journal.open(path, group=group).close()
    assert (path.parent / "runs").stat().st_mode & 0o7777 == 0o2770, "a folder of ours is put right"
    monkeypatch.setenv("HOME", str(path.parent))
    path.parent.chmod(0o700)
    with pytest.raises(ConfigError, match="not a folder of the group") as told:
        Journal.open(path, group=group)
    assert f"chmod 2770 {path.parent}" in told.value.hint


def test_a_folder_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    """Whoever can put files beside the journal can put anything into it; looking is still possible."""
    path = tmp_path / "state" / "journal.db"
    Journal.open(path).close()
    path.parent.chmod(0o1777)
    with pytest.raises(ConfigError, match="everybody may write"):
        Journal.open(path)
    Journal.open(path, read_only=True).close()


def test_the_history_is_verified_as_of_one_moment(journal: Journal, tmp_path: Path) -> None:
    """While others go on writing: what they add between two looks is no contradiction."""
    request, problems = make_request(journal), []

    def write() -> None:
        own = Journal.open(tmp_path / "journal.db")
        own.connection.execute("pragma synchronous = off")
        swing = itertools.cycle((("entitled", "held"), ("held", "entitled")))
        for origin, target in itertools.islice(swing, 1500):
            own.change("request", request, BOB, "swing", origins={origin}, target=target)
        own.close()

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        problems += history.verify(journal.connection)
    writer.join()
    assert problems == []


def test_a_network_file_system_is_refused() -> None:
    """The longest mount point decides."""
    mounts = ["1 0 0:1 / / rw - ext4 /dev/vda rw", "2 1 0:2 / /srv rw - nfs4 server:/srv rw"]
    refuse_network(Path("/var/journal.db"), mounts)
    with pytest.raises(ConfigError, match="nfs4"):
        refuse_network(Path("/srv/journal.db"), mounts)


def test_read_only_changes_not_a_byte(journal: Journal, tmp_path: Path) -> None:
    """Looking leaves the file as it is, and acting is refused."""
    make_request(journal)
    journal.close()
    before = (tmp_path / "journal.db").read_bytes()
    looking = Journal.open(tmp_path / "journal.db", read_only=True)
    with pytest.raises(UsageError, match="read-only"), looking.transaction():
        pass
    assert looking.one("select count(*) from request")[0] == 1  # type: ignore[index]
    looking.close()
    assert (tmp_path / "journal.db").read_bytes() == before


def test_a_full_disk_is_told_and_nothing_is_lost(journal: Journal) -> None:
    """The change does not happen, the message says what to do, and the journal works on when there is room."""
    request = make_request(journal)
    pages = journal.connection.execute("pragma page_count").fetchone()[0]
    journal.connection.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(StorageError) as told:
        journal.change("request", request, ANN, "note", origins={"entitled"}, target=None, data={"text": "x" * 100_000})
    assert "full" in str(told.value)
    journal.connection.execute("pragma max_page_count = 1000000")
    journal.change("request", request, ANN, "note", origins={"entitled"}, target=None)
    assert history.verify(journal.connection) == []


def test_the_backup_is_a_journal(journal: Journal, tmp_path: Path) -> None:
    """With the terminal logs, while writers go on."""
    make_request(journal)
    (journal.runs / "7.log").write_bytes(b"output")
    journal.backup(tmp_path / "copy")
    assert (tmp_path / "copy" / "journal.db").stat().st_mode & 0o777 == 0o600
    copy = Journal.open(tmp_path / "copy" / "journal.db")
    assert copy.id == journal.id
    assert history.verify(copy.connection) == []
    assert (tmp_path / "copy" / "runs" / "7.log").read_bytes() == b"output"
