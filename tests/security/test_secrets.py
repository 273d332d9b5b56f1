"""Secrets stay secret: canaries in every password, and every artefact searched for them (reliability F18)."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from backends.oracle import OracleSettings
from backends.smtp import SmtpSettings
from tests.support.command import call
from tests.support.desk import MOUS, Desk, request_mail
from tests.support.dovecot import ImapMailbox
from tests.support.smtp import PASSWORD, USER, SmtpServer, smtp_server

NAMES = ("archive.password", "mail.inbox_password", "mail.outgoing_password")
WRONG = {name: f"wrong-canary-{number}-\\é\"'" for number, name in enumerate(NAMES)}


def shapes(secret: str) -> set[bytes]:
    """How a secret may look where it leaked: as it is, escaped, percent-encoded, in hex, in the base64 of a log-in."""
    raw = secret.encode()
    log_ins = [raw, *(f"\0{user}\0".encode() + raw for user in (USER, "AOG_RO"))]
    texts = {secret, repr(secret)[1:-1], secret.replace("\\", "\\\\").replace('"', '\\"'), quote(secret), raw.hex()}
    escaped = {secret.encode("unicode_escape").decode(), ascii(secret)[1:-1]}
    return {text.encode() for text in texts | escaped} | {base64.b64encode(one).rstrip(b"=") for one in log_ins}


def leaks(artefacts: Mapping[str, bytes], secrets: Mapping[str, str]) -> list[str]:
    """Which secret is in which artefact."""
    return [
        f"{name} in {place}"
        for place, data in artefacts.items()
        for name, secret in secrets.items()
        if any(shape in data for shape in shapes(secret))
    ]


@pytest.mark.parametrize("secret", ["pass-w0rd", *WRONG.values()])
def test_the_search_finds_a_leak(secret: str) -> None:
    """In each shape it may have; what is not there is not found."""
    for shape in shapes(secret):
        assert leaks({"log": b"user=x " + shape + b" y"}, {"x": secret}) == ["x in log"]
    assert leaks({"log": b"nothing"}, {"x": secret}) == []


@dataclass
class Vault:
    """The site, and its passwords: `secrets` are right ones."""

    desk: Desk
    folder: Path
    mailbox: ImapMailbox
    server: SmtpServer
    patch: pytest.MonkeyPatch

    @property
    def secrets(self) -> dict[str, str]:
        """The right passwords."""
        return dict(zip(NAMES, (self.desk.archive.settings().password, self.mailbox.password, PASSWORD), strict=True))

    def keep(self, kind: str, secrets: Mapping[str, str]) -> None:
        """Put the passwords where this kind of reference looks, and write the configuration."""
        self.folder.mkdir(exist_ok=True)
        self.patch.setenv("CREDENTIALS_DIRECTORY", str(self.folder))
        references = []
        for name, secret in secrets.items():
            place = self.folder / name
            variable = "CANARY_" + name.replace(".", "_").upper()
            place.touch(0o600)
            place.write_text(secret + "\n")
            self.patch.delenv(variable, raising=False)
            if kind == "env":
                self.patch.setenv(variable, secret)
            references.append(
                {"env": f"env:{variable}", "file": f"file:{place}", "credential": f"credential:{name}"}[kind]
            )
        self.configure(*references)

    def configure(self, archive: str, inbox: str, outgoing: str) -> None:
        """Write the configuration with these references."""
        self.desk.configure("auto", "forced", 0, **{
            'password = "env:AOG_TEST_ORACLE"': f"password = '{archive}'",
            'inbox = "maildir:inbox"': f"inbox = '{self.mailbox.url}'\ninbox_password = '{inbox}'",
            'outgoing = "maildir:outbox"': f"outgoing = 'smtp://{USER}@127.0.0.1:{self.server.port}'\n"
                                           f"outgoing_password = '{outgoing}'",
        })  # fmt: skip

    def artefacts(self) -> dict[str, bytes]:
        """Every file of the site: the journal, the log, the runs; and the letters that went out."""
        files = [path for path in self.desk.folder.rglob("*") if path.is_file() and self.folder not in path.parents]
        letters = {f"letter {number}": one.data for number, one in enumerate(self.server.accepted)}
        return {str(path): path.read_bytes() for path in files} | letters

    def verbs(self) -> dict[str, bytes]:
        """What every verb prints, the failing ones too."""
        said = {}
        for words in (
            "requests", "requests --json", "show 2", "show 2 --json", "mails --json", "runs --json", "run 5 --json",
            "letters", "letters --json", "letter 4", "letter 4 --json", "history", "history --json", "history --verify",
            "handover", "handover --json", "staged", "config show", "config show --json", "config check", "config path",
            "doctor", "doctor --json", f"check {MOUS} pi1", f"check {MOUS} pi1 --json", "check x y", "stage 2",
            "show 999", "aogremote", "pause", "resume", "nonsense", "completion bash",
        ):  # fmt: skip
            done = call(self.desk.config, *words.split())
            said[words] = done.out + done.err
        return said


@pytest.fixture
def vault(desk: Desk, imap_mailbox: ImapMailbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    """A site that logs in everywhere with a password."""
    with smtp_server(login=True) as server:
        yield Vault(desk, desk.folder / "secrets", imap_mailbox, server, monkeypatch)
        desk.close()


def children(pid: int) -> dict[str, bytes]:
    """Command line and environment of every process below one."""
    found: dict[str, bytes] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(") ")[2].split()[1])
        except OSError:
            continue
        child = int(path.parent.name)
        if parent == pid:
            found |= {f"{name} of {child}": (path.parent / name).read_bytes() for name in ("cmdline", "environ")}
            found |= children(child)
    return found


def test_no_password_gets_out_of_a_day_of_work(vault: Vault, caplog: pytest.LogCaptureFixture) -> None:
    """Right and wrong ones: not to a verb's output, the journal, the log, a letter, or a child's environment."""
    desk = vault.desk
    vault.keep("env", vault.secrets)
    with desk.serving() as server:
        vault.mailbox.deliver(request_mail(), 1_750_000_000)
        vault.mailbox.deliver(request_mail(account="other", ticket="2"), 1_750_000_001)
        desk.wait(lambda: len(vault.server.accepted) == 2)
        below = children(server.pid)
        assert any(b"aogconsole.mailworker" in text for text in below.values())
        assert b"pass-w0rd" in Path(f"/proc/{server.pid}/environ").read_bytes()  # it is there to be passed on
        assert leaks(below | {"argv": Path(f"/proc/{server.pid}/cmdline").read_bytes()}, vault.secrets) == []
    assert leaks(vault.verbs() | vault.artefacts() | {"logging": caplog.text.encode()}, vault.secrets) == []
    right = vault.secrets
    vault.keep("env", WRONG)
    with desk.serving():
        desk.wait(lambda: "mail:" in desk.log())
    said = vault.verbs()
    assert said["doctor"].count(b"FAULT") >= 3
    assert (
        leaks(
            said | vault.artefacts() | {"logging": caplog.text.encode()},
            {**WRONG, **{f"right {n}": s for n, s in right.items()}},
        )
        == []
    )


def test_a_staged_address_is_not_in_the_engines_log(vault: Vault) -> None:
    """Whoever has it can download: the log, which others may read, does not hold it."""
    vault.keep("env", vault.secrets)
    desk = vault.desk
    with desk.serving():
        for number, ticket in enumerate(("1", "92", "90")):
            vault.mailbox.deliver(request_mail(ticket=ticket), 1_750_000_000 + number)
        desk.wait(lambda: [one["state"] for one in desk.json("runs")].count("succeeded") == 1)
        desk.wait(lambda: len([one for one in desk.json("runs") if one["ended_at"]]) == 3)
    secret = {part.name for part in desk.host.web_root.iterdir()}
    assert len(secret) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in secret)
    assert not [name for name in secret if name in desk.log()]


@pytest.mark.parametrize("kind", ["file", "credential"])
def test_references_work_and_tell_nothing(vault: Vault, kind: str) -> None:
    """Right ones log in everywhere, wrong ones nowhere; either way nobody reads them."""
    vault.keep(kind, vault.secrets)
    said = vault.verbs()
    assert b"FAULT archive" not in said["doctor"]
    assert b"FAULT inbox" not in said["doctor"]
    assert b"FAULT outgoing" not in said["doctor"]
    vault.keep(kind, WRONG)
    wrong = vault.verbs()
    assert wrong["doctor"].count(b"FAULT") >= 3
    assert leaks(said, vault.secrets) + leaks(wrong, WRONG) == []


def test_a_secret_that_others_can_read_is_refused(vault: Vault) -> None:
    """Mode 0644 or 0640: exit code 3 before anything is done, with the command that helps."""
    vault.keep("file", vault.secrets)
    for name, mode in zip(NAMES, (0o644, 0o640, 0o604), strict=True):
        place = vault.folder / name
        place.chmod(mode)
        for words in (("config", "check"), ("serve", "--until-idle")):
            done = call(vault.desk.config, *words)
            assert done.code == 3
            assert f"{name} is in {place}, which others can read\n  chmod 600 {place}\n" in done.err.decode()
            assert leaks({"error": done.err}, vault.secrets) == []
        place.chmod(0o600)
    assert call(vault.desk.config, "config", "check").code == 0


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("file:no such file", "cannot be read"),
        ("env:NOT_SET_AT_ALL", "which is not set"),
        ("credential:no-such", "cannot be read"),
        ("hunter2-canary", "is not a reference to a secret"),
        ("keyring:hunter2-canary", "is not a reference to a secret"),
    ],
)
def test_a_bad_reference_is_told_and_not_repeated(vault: Vault, reference: str, sentence: str) -> None:
    """Exit code 3; whoever wrote the password itself does not see it printed."""
    vault.keep("env", vault.secrets)
    given = ["env:PATH", "env:PATH", "env:PATH"]
    for number, name in enumerate(NAMES):
        vault.configure(*(reference if number == at else one for at, one in enumerate(given)))
        for words in (["config", "check"], ["serve"], ["config", "show"], ["config", "show", "--json"]):
            done = call(vault.desk.config, *words)
            assert b"hunter2-canary" not in done.out + done.err, words
            if words in (["config", "check"], ["serve"]):
                assert done.code == 3
                assert f"{name} " in done.err.decode()
                assert sentence in done.err.decode()


def test_a_password_where_it_does_not_belong_is_not_repeated(vault: Vault) -> None:
    """As a number instead of a reference, or inside a URL: exit code 3, and nobody repeats it."""
    vault.keep("env", vault.secrets)
    text = vault.desk.config.read_text()
    for old, new in (
        ("password = 'env:CANARY_ARCHIVE_PASSWORD'", "password = 424242424242"),
        (vault.mailbox.url, vault.mailbox.url.replace("@127", ":hunter2-canary@127")),
        (f"smtp://{USER}@", f"smtp://{USER}:hunter2-canary@"),
    ):
        assert old in text
        vault.desk.config.write_text(text.replace(old, new))
        for words in (["config", "check"], ["config", "show"], ["config", "show", "--json"], ["serve"], ["doctor"]):
            done = call(vault.desk.config, *words)
            assert b"hunter2-canary" not in done.out + done.err, words
            assert b"424242424242" not in done.out + done.err, words
            assert done.code == 3, (words, done)


def test_addresses_are_shown_without_their_password(tmp_path: Path) -> None:
    """Where a password belongs into an address, `config show` leaves it out."""
    (tmp_path / "config.toml").write_text(
        '[metadata]\ndsn = "postgresql://aog:hunter2-canary/@x@db/meta"\n[broker]\nurl = "amqp://aog:hunter2-canary@mq"\n'
    )
    for words in (["config", "show"], ["config", "show", "--json"]):
        done = call(tmp_path / "config.toml", *words)
        assert b"hunter2-canary" not in done.out
        assert b"amqp://aog:***@mq" in done.out
        assert b"postgresql://aog:***@db/meta" in done.out


def test_settings_do_not_show_their_password() -> None:
    """In a traceback with values, or a debugger's list of them."""
    for made in (
        OracleSettings("host:1521/X", "AOG_RO", "hunter2-canary", 5, None),
        SmtpSettings("host", 25, "none", "aog", "hunter2-canary"),
    ):
        assert "hunter2-canary" not in repr(made) + str(made)


def test_the_environment_is_not_left_behind() -> None:
    """These tests put their canaries back."""
    assert not [name for name in os.environ if name.startswith("CANARY_")]
