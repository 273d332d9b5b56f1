"""`doctor`: a healthy site is healthy, and each fault is found, with what to do about it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import call
from tests.support.desk import Desk, request_mail
from tests.support.dovecot import ImapMailbox
from tests.support.oracle import SCHEMA, TestArchive
from tests.support.smtp import smtp_server
from tests.support.sshd import make_keys

TOOLS = ("basename", "cat", "cut", "date", "df", "dirname", "env", "flock", "grep", "head", "id", "ln", "mkdir", "mv",
         "nproc", "od", "printf", "ps", "rm", "rmdir", "sed", "setsid", "sh", "bash", "sleep", "sort", "stat", "sync",
         "tail", "timeout", "tr", "uname", "wc")  # fmt: skip
"""What the account's PATH holds in these tests, less what a test takes away."""


@pytest.fixture
def site(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A site whose account on the staging host has a PATH of its own, in which a test may put what it likes."""
    monkeypatch.setenv("AOG_TEST_ORACLE", desk.archive.password)
    tools = desk.host.folder / "tools"
    tools.mkdir(mode=0o755)
    for name in TOOLS:
        found = shutil.which(name)
        assert found or name == "nproc", name
        (tools / name).symlink_to(str(found))
    aogremote = desk.host.home / "aogremote"
    first, _, rest = aogremote.read_text().partition("\n")
    aogremote.write_text(f"{first}\nPATH={tools}; export PATH\n{rest}")
    return desk


def replace(desk: Desk, tool: str, script: str) -> None:
    """Put a program of ours in the place of one of the account's."""
    path = desk.host.folder / "tools" / tool
    real = path.resolve()
    path.unlink()
    path.write_text(f'#!/bin/sh\n{script}\nexec {real} "$@"\n')
    path.chmod(0o755)


def examine(desk: Desk, expect: int) -> dict[str, dict[str, Any]]:
    """The findings by check; their sentences are printable, a fault has a hint, and what is right has none."""
    done = call(desk.config, "doctor", "--json")
    findings = {one["check"]: one for one in done.json}
    assert done.code == expect, faults(findings)
    for one in findings.values():
        assert one["detail"].isprintable()
        assert bool(one["hint"]) != one["ok"], one
    return findings


def faults(findings: dict[str, dict[str, Any]]) -> dict[str, str]:
    """What is wrong, but for the engine, which does not run in most of these tests."""
    return {check: f"{one['detail']} {one['hint']}" for check, one in findings.items()
            if not one["ok"] and check != "engine"}  # fmt: skip


def the_fault(desk: Desk) -> tuple[str, str]:
    """The one thing that is wrong: its check, and its words."""
    ((check, words),) = faults(examine(desk, 1)).items()
    return check, words


def test_a_healthy_site(site: Desk) -> None:
    """With the engine running everything is right: exit code 0, and one line for each of fifteen checks."""
    site.deliver(request_mail())
    with site.serving():
        site.wait(lambda: site.host.root.joinpath("journal").exists())
        findings = examine(site, 0)
        assert len(findings) == 15
        text = call(site.config, "doctor")
        assert [line[:5] for line in text.out.decode().splitlines()] == ["ok   "] * 15
    check = examine(site, 1)["engine"]
    assert (check["detail"], check["hint"]) == ("no engine runs", "start `aogconsole serve`, or a console")
    text = call(site.config, "doctor")
    assert "FAULT engine: no engine runs; start" in text.out.decode()


def test_doctor_acts_on_nothing(site: Desk) -> None:
    """No journal is made, no run folder claimed, no mail taken, no letter filed."""
    site.deliver(request_mail())
    assert "not there yet" in examine(site, 0)["journal"]["detail"]
    assert not (site.folder / "state").exists()
    assert not (site.host.root / "journal").exists()
    assert len(list((site.folder / "inbox" / "new").iterdir())) == 1
    assert site.filed() == []


@contextlib.contextmanager
def changed(site: Desk, old: str, new: str) -> Iterator[None]:
    """The configuration with one text in another's place."""
    site.configure("auto", "forced", 0, **{old: new})
    yield
    site.configure()


def test_wrong_settings_are_told_apart(site: Desk) -> None:
    """An archive that is down or refuses the password; a staging host that is down, of another or unknown key."""
    port = site.host.port
    make_keys(site.folder, "stranger")
    wrong = site.folder / "wrong_known_hosts"
    wrong.write_text(f"[127.0.0.1]:{port} {(site.folder / 'stranger.pub').read_text()}")
    empty = site.folder / "empty_known_hosts"
    empty.write_text("")
    for old, new, check, words in (
        (site.archive.dsn, "127.0.0.1:1/ALMA", "archive", "cannot be reached"),
        ('user = "AOG_RO"', 'user = "NOBODY"', "archive", "user"),
        ("env:AOG_TEST_ORACLE", "env:AOG_NOT_SET", "archive", "AOG_NOT_SET"),
        (f"port = {port}", "port = 1", "staging host", "nothing listens"),
        (str(site.host.known_hosts), str(wrong), "staging host", "shows another key than"),
        (str(site.host.known_hosts), str(empty), "staging host", "is not in"),
        (str(site.host.key("forced")), str(site.folder / "stranger"), "staging host", "refuses the login"),
        ("maildir:inbox", "maildir:nowhere", "inbox", "is no Maildir"),
        ("maildir:inbox", "imap://aog@127.0.0.1:1/INBOX", "inbox", "cannot be reached"),
        ("maildir:outbox", "maildir:config.toml", "outgoing mail", "config.toml"),
        ("maildir:outbox", "smtp://127.0.0.1:1", "outgoing mail", "127.0.0.1"),
    ):
        with changed(site, old, new):
            found, told = the_fault(site)
            assert found == check, told
            assert words in told


def test_wrong_passwords_of_mail(site: Desk, imap_mailbox: ImapMailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the mailbox and of the mail server, over real IMAP and SMTP."""
    monkeypatch.setenv("AOG_TEST_WRONG", "canary-wrong-password")
    inbox = f'{imap_mailbox.url}"\ninbox_password = "env:AOG_TEST_WRONG'
    with changed(site, "maildir:inbox", inbox):
        check, told = the_fault(site)
        assert (check, "refuses the log-in" in told) == ("inbox", True)
    with smtp_server(login=True) as server:
        outgoing = f'smtp://aog@{server.host}:{server.port}"\noutgoing_password = "env:AOG_TEST_WRONG'
        with changed(site, "maildir:outbox", outgoing):
            check, told = the_fault(site)
            assert (check, "canary" in told) == ("outgoing mail", False)
        assert server.accepted == []


@pytest.mark.parametrize(
    ("tool", "script", "check", "words"),
    [
        ("flock", None, "staging host: tools", "not found: flock"),
        ("setsid", None, "staging host: tools", "not found: setsid"),
        ("cat", 'case $* in *logind.conf*) echo KillUserProcesses=yes; exit ;; esac', "staging host: logind",
         "enable-linger"),
        ("date", '[ "$*" != +%s ] || { echo $(($(PATH=/bin:/usr/bin date +%s) + 3610)); exit; }', "staging host: clock",
         "+36"),
        ("df", "printf 'Filesystem 1024-blocks Used Available Capacity Mounted on\\n/dev/x 9 9 7 99%% /\\n'; exit",
         "staging host: disk", "make room"),
        ("stat", "echo nfs; exit", "staging host: run folder", "local disk"),
    ],
)  # fmt: skip
def test_faults_of_the_staging_host(site: Desk, tool: str, script: str | None, check: str, words: str) -> None:
    """A tool that is missing, logind that kills, a clock that is wrong, a full disk, a network file system."""
    if script is None:
        (site.host.folder / "tools" / tool).unlink()
    else:
        replace(site, tool, script)
    found, told = the_fault(site)
    assert found == check, told
    assert words in told


def test_a_command_and_a_web_root_that_are_not_there(site: Desk) -> None:
    """The staging command cannot be found, and staged data cannot be looked for."""
    (site.host.home / "bin" / site.host.command).unlink()
    check, told = the_fault(site)
    assert (check, "not found: command" in told) == ("staging host: tools", True)
    site.host.install()
    site.host.hand_over()
    site.host.web_root.rmdir()
    check, told = the_fault(site)
    assert (check, "stagecalms.web_root" in told) == ("staging host: web root", True)
    config = site.config.read_text()
    site.config.write_text(config.replace(f'web_root = "{site.host.web_root}"', ""))
    done = site.call("doctor")
    assert done.returncode == 0, "a site that named none does without `keep`"
    assert b"`keep` cannot work" in done.stdout
    site.config.write_text(config)
    site.host.web_root.mkdir()


def test_a_journal_that_is_not_ours(site: Desk) -> None:
    """A folder that others may write to, and a run folder that is another journal's."""
    site.deliver(request_mail())
    site.serve_until_idle()
    (site.folder / "state").chmod(0o777)
    check, told = the_fault(site)
    assert (check, "chmod 700" in told) == ("journal: folder", True)
    (site.folder / "state").chmod(0o700)
    with changed(site, "state/journal.db", "other/journal.db"):
        check, told = the_fault(site)
        assert (check, "another journal" in told) == ("staging host: owner", True)


def test_a_journal_that_is_none(site: Desk) -> None:
    """Some other file in its place is found, and left as it is."""
    (site.folder / "state").mkdir(mode=0o700)
    file = site.folder / "state" / "journal.db"
    file.write_text("no journal " * 100)
    check, told = the_fault(site)
    assert (check, "journal.path" in told) == ("journal", True)
    assert file.read_text() == "no journal " * 100


def test_a_machine_for_reingestion_only(tmp_path: Path) -> None:
    """What it has nothing to do with is not configured, and no fault; what it has to do with is tried."""
    file = tmp_path / "config.toml"
    desk = f'[journal]\npath = "{tmp_path}/state/journal.db"\n'
    file.write_text(f'{desk}[metadata]\ndsn = "sqlite:metadata.db"\n')
    done = call(file, "doctor", "--json")
    findings = {one["check"]: one for one in done.json}
    assert list(findings) == ["journal", "archive", "staging host", "inbox", "outgoing mail", "metadata"]
    assert all(set(one) == {"check", "ok", "detail", "hint"} for one in done.json)
    left_out = {check for check, one in findings.items() if "not configured" in one["detail"]}
    assert left_out == {"archive", "staging host", "inbox", "outgoing mail"}
    assert faults(findings) == {}
    assert done.code == 0
    assert "ok    inbox: not configured" in call(file, "doctor").out.decode()
    # an archive that is named is tried
    file.write_text(f'{file.read_text()}[archive]\ndsn = "127.0.0.1:1/ALMA"\nuser = "u"\npassword = "env:HOME"\n')
    assert list(faults({one["check"]: one for one in call(file, "doctor", "--json").json})) == ["archive: news"]


@pytest.mark.parametrize(
    "text", ['[mail]\ninbox = "maildir:inbox"', '[staging]\nhost = "127.0.0.1"\nport = 1', '[broker]\nurl = ""']
)
def test_a_desk_that_lacks_something(tmp_path: Path, text: str) -> None:
    """One part of the desk is enough for the others to be missed; so is a machine without anything."""
    journal = f'[journal]\npath = "{tmp_path}/state/journal.db"'
    reingestion = '[metadata]\ndsn = "sqlite:metadata.db"' if "broker" not in text else ""
    (tmp_path / "config.toml").write_text("\n".join([text, journal, reingestion]))
    findings = {one["check"]: one for one in call(tmp_path / "config.toml", "doctor", "--json").json}
    assert not findings["outgoing mail"]["ok"]
    assert "mail.outgoing is not set" in findings["outgoing mail"]["detail"]


def test_a_desk_that_lost_its_settings(site: Desk) -> None:
    """A journal is there: the machine is a desk's, whatever its configuration has become."""
    site.deliver(request_mail())
    site.serve_until_idle()
    file = site.config
    file.write_text(f'[journal]\npath = "{site.folder}/state/journal.db"\n[metadata]\ndsn = "sqlite:metadata.db"\n')
    findings = {one["check"]: one for one in call(file, "doctor", "--json").json}
    assert {"archive", "staging host", "inbox", "outgoing mail"} <= faults(findings).keys()


@pytest.mark.parametrize("lost", ["asa_product_files", "aqua_v_execblock", "sched_block_status"])
def test_a_view_that_only_reingestion_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    """Each of those that the loader and the workflows read is tried, and nothing else of the archive."""
    text = (
        '[metadata]\ndsn = "sqlite:metadata.db"\n[archive]\ndsn = "{}"\nuser = "{}"\npassword = "env:AOG_TEST_ORACLE"\n'
    )
    journal = f'[journal]\npath = "{tmp_path}/state/journal.db"\n'
    for sql, expect in (("", 0), ("drop table dp_delegation;", 0), (f"drop table {lost};", 1)):
        with TestArchive(SCHEMA.read_text("utf-8") + sql) as archive:
            monkeypatch.setenv("AOG_TEST_ORACLE", archive.password)
            (tmp_path / "config.toml").write_text(journal + text.format(archive.dsn, archive.user))
            done = call(tmp_path / "config.toml", "doctor", "--json")
        found = {one["check"]: one for one in done.json}["archive: news"]
        assert (done.code, found["ok"]) == (expect, not expect), found
        assert not expect or "does not see one of the tables or views" in found["detail"]
