"""The verb `broker declare`, on a real broker and without one."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.support.command import call
from tests.support.rabbitmq import Vhost


def configured(folder: Path, url: str, password: str) -> Path:
    """A configuration with this broker."""
    secret, file = folder / "broker.password", folder / "config.toml"
    secret.write_text(password)
    secret.chmod(0o600)
    file.write_text(f'[broker]\nurl = "{url}"\npassword = "file:broker.password"\n')
    return file


def test_declare(rabbitmq: Vhost, tmp_path: Path) -> None:
    """It makes what is not there, once; a line for each thing."""
    config = configured(tmp_path, rabbitmq.url, rabbitmq.password)
    first = call(config, "broker", "declare", "--site", "NAASC", "--json")
    assert first.code == 0
    assert set(first.json) == {"broker", "declared"}
    assert first.json["broker"] == rabbitmq.url
    assert "queue alma_reingestion made" in first.json["declared"]
    assert "queue archive.workflow-commands.NAASC made" in first.json["declared"]
    again = call(config, "broker", "declare", "--site", "NAASC")
    assert again.code == 0
    assert len(again.out.splitlines()) == len(first.json["declared"])
    assert b"made" not in again.out


def test_what_cannot_be(rabbitmq: Vhost, tmp_path: Path) -> None:
    """One sentence and a hint, with the contract's exit code; nothing of the password."""
    good = configured(tmp_path, rabbitmq.url, rabbitmq.password)
    assert call(good, "--read-only", "broker", "declare").code == 2
    assert call(good, "broker", "declare", "--site", "a b").code == 2
    refused = call(configured(tmp_path, rabbitmq.url, "canary-2718"), "broker", "declare")
    assert (refused.code, refused.err.count(b"\n")) == (4, 2)
    assert b"refuses the log-in" in refused.err
    assert b"canary" not in refused.err
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = call(configured(tmp_path, f"amqp://aog@127.0.0.1:{nobody.getsockname()[1]}/v", "x"), "broker", "declare")
    assert (away.code, away.err.count(b"\n")) == (4, 2)
    assert b"Connection refused" in away.err
    (tmp_path / "config.toml").write_text("")
    assert call(tmp_path / "config.toml", "broker", "declare").code == 3
