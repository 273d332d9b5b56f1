"""Logins that fail: each is one clear sentence, and says whose turn it is."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aogconsole.errors import AogError, ConfigError, HostKeyChanged, HostKeyUnknown, StagingError
from backends.ssh import SshSettings, SshStagingHost
from tests.support.sshd import StagingSite, make_keys, unused_port


async def failure(settings: SshSettings) -> AogError:
    """What a question fails with; it has a hint, and one line."""
    host = SshStagingHost(settings)
    with pytest.raises(AogError) as caught:
        await host.hello()
    await host.close()
    assert caught.value.hint
    assert str(caught.value).isprintable()
    return caught.value


async def test_unknown_host_key(staging_site: StagingSite) -> None:
    """A host that known_hosts does not name is unknown, not changed; nothing is accepted."""
    staging_site.known_hosts.write_text("")
    assert type(await failure(staging_site.settings())) is HostKeyUnknown


async def test_changed_host_key(staging_site: StagingSite, tmp_path: Path) -> None:
    """Another key of the same kind than known_hosts has."""
    make_keys(tmp_path, "other")
    kind, key, _ = (tmp_path / "other.pub").read_text().split()
    staging_site.known_hosts.write_text(f"[127.0.0.1]:{staging_site.port} {kind} {key}\n")
    assert type(await failure(staging_site.settings())) is HostKeyChanged


async def test_host_key_of_another_kind(staging_site: StagingSite, tmp_path: Path) -> None:
    """known_hosts has an ECDSA key, the host shows none such: changed too, although no algorithm agrees."""
    make_keys(tmp_path, "other", kind="ecdsa-sha2-nistp256")
    kind, key, _ = (tmp_path / "other.pub").read_text().split()
    staging_site.known_hosts.write_text(f"[127.0.0.1]:{staging_site.port} {kind} {key}\n")
    assert type(await failure(staging_site.settings())) is HostKeyChanged


async def test_revoked_host_key(staging_site: StagingSite) -> None:
    """A key that known_hosts revokes is never accepted."""
    with staging_site.known_hosts.open("a") as file:
        file.write(f"@revoked {staging_site.known_hosts.read_text()}")
    assert type(await failure(staging_site.settings())) is HostKeyChanged


async def test_refused_login(staging_site: StagingSite, tmp_path: Path) -> None:
    """A key the account does not have."""
    make_keys(tmp_path, "stranger")
    error = await failure(replace(staging_site.settings(), key=str(tmp_path / "stranger")))
    assert type(error) is StagingError
    assert "refuses the login of arcdistribution" in str(error)


async def test_nothing_listens(staging_site: StagingSite) -> None:
    """A refused connection."""
    error = await failure(replace(staging_site.settings(), port=unused_port()))
    assert type(error) is StagingError
    assert "nothing listens" in str(error)


async def test_silent_host(staging_site: StagingSite) -> None:
    """A port that takes the connection and says nothing: bounded in time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        error = await failure(replace(staging_site.settings(), port=port, connect_timeout=0.5))
    assert type(error) is StagingError
    assert "does not answer" in str(error)


async def test_unresolvable_host(staging_site: StagingSite) -> None:
    """A name that does not exist."""
    error = await failure(replace(staging_site.settings(), host="no.such.host.invalid", connect_timeout=5))
    assert type(error) is StagingError


def make_protected_key(path: Path) -> None:
    """As ssh-keygen makes it with a passphrase."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", path], check=True)


@pytest.mark.parametrize("broken", ["missing", "garbage", "passphrase", "folder"])
async def test_unusable_key_file(staging_site: StagingSite, tmp_path: Path, broken: str) -> None:
    """A missing, damaged or passphrase-protected key is the configuration's fault, and named."""
    path = tmp_path / "key"
    match broken:
        case "garbage":
            path.write_text("not a key\n")
        case "passphrase":
            make_protected_key(path)
        case "folder":
            path.mkdir()
    error = await failure(replace(staging_site.settings(), key=str(path)))
    assert type(error) is ConfigError
    assert str(path) in str(error)
    assert ("passphrase" in str(error)) == (broken == "passphrase")


@pytest.mark.parametrize("broken", ["missing", "damaged"])
async def test_unusable_known_hosts(staging_site: StagingSite, tmp_path: Path, broken: str) -> None:
    """Without a readable known_hosts nobody is trusted."""
    path = tmp_path / "known_hosts"
    if broken == "damaged":
        path.write_text("oneword\n")
    error = await failure(replace(staging_site.settings(), known_hosts=str(path)))
    assert type(error) is ConfigError
    assert str(path) in str(error)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A private, empty ssh-agent."""
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    yield
    process.terminate()
    process.communicate()


def load(key: Path) -> None:
    """Give the agent a key."""
    subprocess.run(["ssh-add", "-q", key], check=True)


@pytest.mark.usefixtures("agent")
async def test_the_agent_is_used_without_a_key(staging_site: StagingSite) -> None:
    """staging.key left out: the agent's keys; an empty agent is told."""
    settings = replace(staging_site.settings(), key=None)
    error = await failure(settings)
    assert type(error) is ConfigError
    assert "holds no key" in str(error)
    load(staging_site.key("forced"))
    host = SshStagingHost(settings)
    assert (await host.hello()).slots == 2
    await host.close()


async def test_no_agent_and_no_key(staging_site: StagingSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither: the configuration's fault; default keys of the home are not tried."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    error = await failure(replace(staging_site.settings(), key=None))
    assert type(error) is ConfigError
    assert "no SSH agent answers" in str(error)
