"""The configuration: precedence, unknown keys, wrong types, paths, secrets, and the commands about it."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from aogconsole import config, site
from aogconsole.cli.root import main
from aogconsole.errors import ConfigError

CONTRACT = """
[journal]
path = "journal.db"              # terminal logs lie beside it in runs/
group = "aog"                    # optional

[archive]
dsn = "host:1521/SERVICE"        # Oracle Net
user = "AOG_RO"
password = "file:archive.password"
timeout = 10                     # seconds: connect, and each statement
queries = "queries"              # optional folder of .sql files that replace ours, by name

[staging]
host = "almasciencedev.hq.eso.org"
port = 22
user = "arcdistribution"
key = "id_ed25519"               # optional; the agent otherwise
known_hosts = "known_hosts"
root = ".aogconsole"             # folder of the runs on the staging host
remote = "forced"                # "forced": aogremote behind a forced command; "plain": the same as quoted commands
command = "stagecalms.sh"
slots = 2
retention_days = 28
url_prefixes = ["http://almascience.eso.org/arcdistribution/", "https://almascience.eso.org/arcdistribution/"]

[mail]
inbox = "imaps://aog@imap.example.org/INBOX"     # imap://, imaps:// (user percent-encoded), or "maildir:PATH"
inbox_password = "file:..."
outgoing = "smtp://user@smtp.example.org:587"    # smtps://; smtp://; or "maildir:PATH" (filed, not sent)
outgoing_password = "file:..."
ca = "ca.pem"                    # optional
address = "aog@eso.org"
expert = "dpetry@eso.org"
senders = ["*@eso.org"]          # who may request; From is forgeable:
authserv = "mx.eso.org"          # optional: without this server's DMARC pass a request is unclear
cc_refusals = false
poll = 60                        # seconds

[policy]
stage = "ask"                    # "auto": stage what is entitled without asking
send = "ask"                     # "auto": send letters without asking
timezone = "UTC"

[metadata]
dsn = "postgresql://..."         # or "sqlite:PATH" (embedded)

[broker]
url = "amqp://..."               # or "memory:" (embedded, one process)

[reingestion]
capo_profile = "naasc-prod"      # optional, unset by default
interval = 3600                  # seconds between the loader's cycles
execblock_overlap = 43200        # seconds of look-back
calibration_overlap = 172800
limit = 4                        # workflows at once
attempts = 3
launcher = "amqp"                # or "slurm", "local"
[reingestion.sites]              # where each workflow is launched
execution_block = "NAASC"        # Charlottesville: routing key NAASC.start
calibration = "DSOC"             # New Mexico

[ngas]
url = "http://ngas.example.org:7777"             # RETRIEVE?file_id=...

[stagecalms]                     # on the staging host
nodes = ["arcp1.hq.eso.org", "arcp9.hq.eso.org"]
node_user = "arcproc"
rhel5_nodes = ["arcp-rhel5.hq.eso.org"]
rhel5_before = "2013"            # project year
workdir = "/opsw/work/pipeproc/autopipeline/tmp"
web_root = "/var/www/html/arcdistribution/preview"
url = "http://almascience.eso.org/arcdistribution/preview"
calibrator = "..."               # command: PROJECT MOUS EB... in the working directory; leaves <EB>.ms.split.cal
engine = "ssh"                   # or "slurm"
"""
"""The contract's example, as it stands there."""

PATHS = {"journal.path", "archive.queries", "staging.key", "staging.known_hosts", "mail.ca"}


def write(folder: Path, text: str) -> Path:
    """A configuration file."""
    file = folder / "config.toml"
    file.write_text(text, encoding="utf-8")
    return file


def flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A TOML document's values by `section.key`."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def called(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of the command, called in this process."""
    monkeypatch.setattr(sys, "argv", ["aogconsole", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_every_key_of_the_contract_is_taken_as_it_stands(tmp_path: Path) -> None:
    """The contract's example is read to the letter: each value arrives, paths relative to the file's folder."""
    loaded = config.load(write(tmp_path, CONTRACT), environ={})
    wanted = flat(tomllib.loads(CONTRACT))
    assert len(wanted) == 53
    for name, value in wanted.items():
        expected: Any = tuple(value) if isinstance(value, list) else value
        expected = str(tmp_path / expected) if name in PATHS else expected
        assert loaded.values[name].value == expected, name
        assert loaded.values[name].source == str(tmp_path / "config.toml")
    assert loaded.settings.reingestion.sites.calibration == "DSOC"
    assert loaded.settings.archive.timeout == 10.0


def test_the_contracts_defaults_are_ours(tmp_path: Path) -> None:
    """A key left out has the value that the contract shows, wherever that is not a site's own."""
    loaded, shown = config.load(write(tmp_path, ""), environ={}), flat(tomllib.loads(CONTRACT))
    own = {"journal.path", "journal.group", "archive.dsn", "archive.password", "archive.queries", "staging.key",
           "mail.inbox", "mail.inbox_password", "mail.outgoing", "mail.outgoing_password", "mail.ca", "mail.authserv",
           "metadata.dsn", "broker.url", "reingestion.capo_profile", "ngas.url", "stagecalms.calibrator"}  # fmt: skip
    for name, value in shown.items():
        found = loaded.values[name].value
        if name in own:
            assert found == "", name
        elif name != "staging.known_hosts":
            assert found == (tuple(value) if isinstance(value, list) else value), name


def test_precedence_is_flag_environment_file_default(tmp_path: Path) -> None:
    """Of four sources the first that speaks counts, and is named."""
    file = write(tmp_path, "[staging]\nslots = 3\nport = 2222\nuser = 'tom'\n")
    environ = {"AOGCONSOLE_STAGING__PORT": "2200", "AOGCONSOLE_STAGING__USER": "ann"}
    loaded = config.load(file, environ=environ, flags={"staging.user": "flo"})
    told = {name: (value.value, value.source) for name, value in loaded.values.items()}
    assert told["staging.user"] == ("flo", "flag")
    assert told["staging.port"] == (2200, "environment AOGCONSOLE_STAGING__PORT")
    assert told["staging.slots"] == (3, str(file))
    assert told["staging.command"] == ("stagecalms.sh", "default")
    assert (loaded.settings.staging.user, loaded.settings.staging.port) == ("flo", 2200)


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("MAIL__SENDERS", "*@eso.org, *@alma.cl", "mail.senders", ("*@eso.org", "*@alma.cl")),
        ("MAIL__SENDERS", '["a,b@eso.org", "*@alma.cl"]', "mail.senders", ("a,b@eso.org", "*@alma.cl")),
        ("MAIL__SENDERS", "", "mail.senders", ()),
        ("MAIL__CC_REFUSALS", "true", "mail.cc_refusals", True),
        ("MAIL__POLL", "2.5", "mail.poll", 2.5),
        ("POLICY__STAGE", "auto", "policy.stage", "auto"),
        ("REINGESTION__SITES__CALIBRATION", "NAASC", "reingestion.sites.calibration", "NAASC"),
        ("STAGING__USER", "true", "staging.user", "true"),
    ],
)
def test_the_environment_speaks_every_type(tmp_path: Path, variable: str, text: str, key: str, value: object) -> None:
    """Texts as they are, lists with commas or as TOML, numbers and truth as in TOML."""
    loaded = config.load(write(tmp_path, ""), environ={f"AOGCONSOLE_{variable}": text})
    assert loaded.values[key].value == value


@pytest.mark.parametrize(
    ("text", "sentence", "hint"),
    [
        ("[staging]\nhots = 'x'", "unknown key staging.hots", "did you mean staging.host?"),
        ("[stagin]\nhost = 'x'", "unknown key stagin", "did you mean staging?"),
        ("[reingestion.sites]\ncalibrations = 'x'", "reingestion.sites.calibrations", "reingestion.sites.calibration?"),
        ("zzzzz = 1", "unknown key zzzzz", "config show"),
        ('[staging]\n"po\\u001brt" = 1', "unknown key staging.po\\x1brt", "did you mean staging.port?"),
        ("staging = 1", "staging is a section", "[staging]"),
        ("[[mail]]", "mail is a section", "[mail]"),
        ("[staging]\nport = '22'", "staging.port in", "its SSH port"),
        ("[staging]\nport = 22.0", "a whole number", "its SSH port"),
        ("[staging]\nport = true", "a whole number", "its SSH port"),
        ("[staging]\nport = 70000", "at most 65535", "its SSH port"),
        ("[staging]\nslots = 0", "at least 1", "runs at a time"),
        ("[archive]\ntimeout = nan", "a number, at least 0.1", "seconds"),
        ("[archive]\ntimeout = inf", "a number, at least 0.1", "seconds"),
        ("[mail]\npoll = true", "a number, at least 0.1", "seconds"),
        ("[mail]\ncc_refusals = 'no'", "true or false", "refusals"),
        ("[mail]\nsenders = '*@eso.org'", "a list of texts", "who may request"),
        ("[mail]\nsenders = [1]", "a list of texts", "who may request"),
        ("[mail]\naddress = \"a\\r\\nBcc: x@example.org\"", "a text of printable characters", "our own address"),
        ("[policy]\nstage = 'Auto'", '"ask", "auto"', "without asking"),
        ("[policy]\ntimezone = 'Mars/Olympus'", "no time zone", "Europe/Berlin"),
        ("[policy]\ntimezone = '../../etc/passwd'", "no time zone", "Europe/Berlin"),
        ("[mail]\nsince = '2026-02-30'", "not a date", "2026-11-21"),
        ("[mail]\ninbox = 'pop3://x'", "mail.inbox", "config init"),
        ("[mail]\noutgoing = 'imaps://x'", "mail.outgoing", "config init"),
        ("[metadata]\ndsn = 'mysql://h/d'", "metadata.dsn", "config init"),
        ("[broker]\nurl = 'http://h'", "broker.url", "config init"),
        ("[ngas]\nurl = 'ftp://h'", "ngas.url", "config init"),
        ("[ngas]\nurl = 'http://u:s3cret@h'", "ngas.url", "without an account"),
        ("[staging]\nkey = '~no-such-account/key'", "that account is unknown", "whole path"),
        ("[staging\n", "not valid TOML", "correct the line"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, text: str, sentence: str, hint: str) -> None:
    """The key, what it is, what it should be, and the nearest known one: one sentence and what to do."""
    with pytest.raises(ConfigError) as caught:
        config.load(write(tmp_path, text), environ={})
    assert sentence in str(caught.value)
    assert hint in caught.value.hint
    assert str(caught.value).isprintable()
    assert "s3cret" not in str(caught.value)


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    """A misspelled variable, and one of the wrong type, is told by its own name."""
    for variable, text in (("AOGCONSOLE_STAGING__PRT", "1"), ("AOGCONSOLE_STAGING__PORT", "many")):
        with pytest.raises(ConfigError, match=variable):
            config.load(write(tmp_path, ""), environ={variable: text})


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """Not UTF-8, a folder, a file as folder: a configuration error, never a silent default."""
    file = write(tmp_path, "")
    file.write_bytes(b"x = '\xff'")
    for path in (file, tmp_path, file / "config.toml"):
        with pytest.raises(ConfigError, match="cannot be read"):
            config.load(path, environ={})


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    """By flag or by AOGCONSOLE_CONFIG; at the usual place it may be missing, and defaults hold."""
    nowhere = tmp_path / "nowhere.toml"
    with pytest.raises(ConfigError, match="no configuration file"):
        config.load(nowhere, environ={})
    with pytest.raises(ConfigError, match="no configuration file"):
        config.load(environ={"AOGCONSOLE_CONFIG": str(nowhere)})
    loaded = config.load(environ={"XDG_CONFIG_HOME": str(tmp_path)})
    assert loaded.file is None
    assert {value.source for value in loaded.values.values()} == {"default"}


def test_where_the_file_is_looked_for(tmp_path: Path) -> None:
    """AOGCONSOLE_CONFIG, then XDG_CONFIG_HOME, then ~/.config."""
    both = {"AOGCONSOLE_CONFIG": "/x/y.toml", "XDG_CONFIG_HOME": "/z"}
    assert config.default_path(both) == Path("/x/y.toml")
    assert config.default_path({"XDG_CONFIG_HOME": "/z"}) == Path("/z/aogconsole/config.toml")
    assert config.default_path({}) == Path.home() / ".config/aogconsole/config.toml"


def test_the_journal_is_below_the_state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless journal.path says otherwise."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert config.load(write(tmp_path, ""), environ={}).journal_path == tmp_path / "aogconsole" / "journal.db"
    given = config.load(write(tmp_path, "[journal]\npath = 'a/j.db'"), environ={})
    assert given.journal_path == tmp_path / "a" / "j.db"


def test_secrets_are_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file of mode 600, the environment, or systemd; only the line end is cut off."""
    (tmp_path / "word").write_text(" pass word \n")
    (tmp_path / "word").chmod(0o600)
    monkeypatch.setenv("AOG_WORD", "from the environment")
    assert config.reveal("file:word", "archive.password", tmp_path) == " pass word "
    assert config.reveal("env:AOG_WORD", "archive.password", tmp_path) == "from the environment"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "word").chmod(0o444)
    assert config.reveal("credential:word", "archive.password", tmp_path) == " pass word "
    assert config.reveal("", "archive.password", tmp_path) == ""


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("hunter2", "is not a reference to a secret"),
        ("file:open", "others can read"),
        ("file:missing", "cannot be read"),
        ("file:.", "cannot be read"),
        ("env:AOG_NO_SUCH", "which is not set"),
        ("credential:x", "systemd credential"),
    ],
)
def test_a_secret_that_cannot_be_had_is_told_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, sentence: str
) -> None:
    """The key and what to do are named, the secret itself never."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    tmp_path.chmod(0o700)
    (tmp_path / "open").write_text("hunter2")
    (tmp_path / "open").chmod(0o640)
    with pytest.raises(ConfigError, match=r"archive\.password") as caught:
        config.reveal(reference, "archive.password", tmp_path)
    assert sentence in str(caught.value)
    assert caught.value.hint
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_init_writes_a_file_that_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every key, mode 600; read back it gives the defaults, uncommented too; never written over another."""
    file = tmp_path / "new" / "config.toml"
    assert called(monkeypatch, "--config", str(file), "config", "init") == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    text = file.read_text()
    assert not flat(tomllib.loads(text))
    lines = [line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in text.splitlines()]
    uncommented = flat(tomllib.loads("\n".join(lines)))
    assert {name: tuple(value) if isinstance(value, list) else value for name, value in uncommented.items()} == {
        str(key): key.default for key in config.known_keys()
    }
    assert called(monkeypatch, "--config", str(file), "config", "init") == 3
    assert file.read_text() == text
    assert "is there already" in capsys.readouterr().err


def test_show_tells_every_value_and_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As lines and as JSON; secrets stay references."""
    file = write(tmp_path, "[archive]\npassword = 'env:AOG_WORD'\n[mail]\nsenders = ['*@a', '*@b']\n")
    monkeypatch.setenv("AOG_WORD", "hunter2")
    monkeypatch.setenv("AOGCONSOLE_STAGING__PORT", "2200")
    assert called(monkeypatch, "--config", str(file), "config", "show") == 0
    text = capsys.readouterr().out
    assert f'archive.password = "env:AOG_WORD"    # {file}' in text
    assert "staging.port = 2200    # environment AOGCONSOLE_STAGING__PORT" in text
    assert "archive.timeout = 10    # default" in text
    assert "hunter2" not in text
    assert called(monkeypatch, "--config", str(file), "config", "show", "--json") == 0
    shown = {one["key"]: one["value"] for one in json.loads(capsys.readouterr().out)}
    assert shown["mail.senders"] == ["*@a", "*@b"]
    assert list(shown) == [str(key) for key in config.known_keys()]


def test_check_tries_what_can_be_tried_without_connecting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 0 for what is right; a missing secret, a wrong URL, address or folder is found, exit 3."""
    file = write(tmp_path, "[mail]\ninbox = 'maildir:in'\noutgoing = 'smtp://127.0.0.1:1'\n")
    assert called(monkeypatch, "--config", str(file), "config", "check") == 0
    assert "is right" in capsys.readouterr().out
    for text, sentence in (
        ("[archive]\npassword = 'file:missing'", "archive.password"),
        ("[archive]\ndsn = 'scott/tiger@host:1521/X'", "more than an address"),
        ("[mail]\ninbox = 'imaps://imap.example.org'", "with a user and a host"),
        ("[mail]\noutgoing = 'smtp://'", "not the URL of a mail server"),
        ("[mail]\naddress = 'AOG <aog@eso.org>'", "mail.address"),
        ("[mail]\nletters = 'nowhere'", "mail.letters"),
    ):
        assert called(monkeypatch, "--config", str(write(tmp_path, text)), "config", "check") == 3, text
        assert sentence in capsys.readouterr().err


def test_a_site_has_its_own_letters(tmp_path: Path) -> None:
    """The files of `mail.letters` replace ours by name; one that is no letter, or lacks a place, is a wrong setting."""
    loaded = config.load(write(tmp_path, "[mail]\nletters = 'texts'\n"))
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "link.txt").write_text("Look at {url} within {days}.\n")
    found = site.letter_rules(loaded).templates
    assert found is not None
    assert found["link"] == "Look at {url} within {days}."
    assert found["not_entitled"] == "NOT ENTITLED"
    for name, text, sentence in (("lnk.txt", "", "the text of no letter"), ("link.txt", "{url}", "lacks a place")):
        (folder / name).write_text(text)
        with pytest.raises(ConfigError, match=sentence):
            site.letter_rules(loaded)
        (folder / name).unlink()


def test_path_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the file that would be read, there or not."""
    monkeypatch.setenv("AOGCONSOLE_CONFIG", str(tmp_path / "here.toml"))
    assert called(monkeypatch, "config", "path", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(tmp_path / "here.toml")}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[metadata]\ndsn = 'postgresql://u:s3cret@h/d'", "postgresql://u:***@h/d"),
        ("[metadata]\ndsn = 'postgresql://h/d?user=u&password=s3cret'", "postgresql://h/d?user=u&password=***"),
        ("[broker]\nurl = 'amqp://u:s3cret@h/v'", "amqp://u:***@h/v"),
    ],
)
def test_an_address_of_the_database_or_the_broker_may_hold_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, shown: str
) -> None:
    """Sites copy such addresses as they are; the password is in no listing of the settings."""
    file = tmp_path / "config.toml"
    file.write_text(text)
    for form in ((), ("--json",)):
        assert called(monkeypatch, "--config", str(file), "config", "show", *form) == 0
        listed = capsys.readouterr().out
        assert shown in listed
        assert "s3cret" not in listed
