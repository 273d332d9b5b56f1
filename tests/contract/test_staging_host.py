"""What every StagingHost owes, tried on a real OpenSSH: behind a forced command and the plain way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from aogconsole.errors import StagingError
from aogconsole.ids import MousUid, ProjectCode, Ticket
from backends.ports import RemoteRun, StagedDirectory, StartAnswer
from backends.ssh import SshStagingHost
from tests.support.sshd import OPERATOR, StagingSite

PROJECT = ProjectCode.parse("2012.1.00357.S")
MOUS = MousUid.parse("uid___A002_X788a57_X29")
TICKET = Ticket.parse("#15270")

# Runs until its gate, a file named for the ticket, is there; tells its own pid and words.
GATED = """#!/bin/bash
echo "$$ $#: $*" >> "$HOME/started"
echo "words $*"
until [ -e "$HOME/gate.$3" ]; do sleep 0.05; done
echo "done $*"
exit 7
"""


@pytest.fixture(params=["forced", "plain"])
async def host(request: pytest.FixtureRequest, staging_site: StagingSite) -> AsyncIterator[SshStagingHost]:
    """The adapter, both ways."""
    adapter = SshStagingHost(staging_site.settings(request.param))
    yield adapter
    await adapter.close()


def new_token() -> str:
    """A run's token."""
    return secrets.token_hex(16)


async def start(host: SshStagingHost, token: str, ticket: str = "15270") -> StartAnswer:
    """Start the staging command for the usual MOUS."""
    return await host.start(token, PROJECT, MOUS, Ticket.parse(ticket))


async def whole_log(host: SshStagingHost, token: str, offset: int = 0) -> bytes:
    """The log from an offset to its end."""
    return b"".join([piece async for piece in host.log(token, offset)])


async def until(host: SshStagingHost, token: str, state: str) -> RemoteRun:
    """The run, as soon as it is in this state."""
    while (run := await host.status(token)).state != state:
        await asyncio.sleep(0.02)
    return run


def open_gate(site: StagingSite, ticket: str = "15270") -> None:
    """Let a gated run end."""
    (site.home / f"gate.{ticket}").touch()


def starts(site: StagingSite) -> list[str]:
    """A line for each staging command that ever began."""
    with contextlib.suppress(FileNotFoundError):
        return (site.home / "started").read_text().splitlines()
    return []


async def test_hello_tells_the_host(host: SshStagingHost, staging_site: StagingSite) -> None:
    """Who it is, what it has, and whose run folder it is: the first journal's."""
    told = await host.hello()
    assert (told.operator, told.slots, told.journal) == (OPERATOR, 2, "")
    assert told.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert told.tools == {"flock": True, "setsid": True, "tail": True, "command": True}
    assert told.disk_free > 1 << 20
    assert told.web_free is not None
    assert not staging_site.root.exists(), "asking leaves nothing behind"
    assert (await host.hello("journal-1")).journal == "journal-1"
    assert (await host.hello("journal-2")).journal == "journal-1"


async def test_first_journal_owns_the_folder(host: SshStagingHost) -> None:
    """Twenty journals ask at once: all are told the same owner."""
    told = await asyncio.gather(*(host.hello(f"journal-{number}") for number in range(20)))
    assert len({answer.journal for answer in told}) == 1


async def test_a_run_from_start_to_end(host: SshStagingHost, staging_site: StagingSite) -> None:
    """The command gets its three words, its output is the log, its exit status is kept; the slot is free again."""
    staging_site.install(GATED)
    token = new_token()
    assert (await host.status(token)).state == "absent"
    assert (await start(host, token)).outcome == "started"
    run = await host.status(token)
    assert (run.token, run.state, run.slot, run.why) == (token, "running", 0, "")
    open_gate(staging_site)
    words = b"2012.1.00357.S uid___A002_X788a57_X29 15270\n"
    assert await whole_log(host, token) == b"words " + words + b"done " + words
    run = await until(host, token, "exited")
    assert (run.exit_status, run.log_bytes) == (7, len(staging_site.run_log(token)))
    assert starts(staging_site)[0].partition(" ")[2] == "3: 2012.1.00357.S uid___A002_X788a57_X29 15270"
    runs = await host.list()
    assert (runs.runs, runs.foreign, runs.free) == ((), (), 2)
    assert runs.room > 0


async def test_a_run_that_has_ended_tells_how_long_ago(host: SshStagingHost, staging_site: StagingSite) -> None:
    """By the host's clock alone; an end that is to come, as its clock was set back, is now."""
    staging_site.install(GATED)
    token = new_token()
    await start(host, token)
    assert (await host.status(token)).ended_ago is None
    open_gate(staging_site)
    ended = await until(host, token, "exited")
    assert ended.ended_ago is not None
    assert ended.ended_ago < 60
    for age, least, most in ((5 * 86400, 5 * 86400, 5 * 86400 + 60), (-86400, 0, 0)):
        then = time.time() - age
        os.utime(staging_site.root / token / "exit", (then, then))
        told = (await host.status(token)).ended_ago
        assert told is not None
        assert least <= told <= most


async def test_start_twice_runs_once(host: SshStagingHost, staging_site: StagingSite) -> None:
    """The same token again: `already`, while it runs and after it has ended."""
    staging_site.install(GATED)
    token = new_token()
    assert [(await start(host, token)).outcome for _ in range(3)] == ["started", "already", "already"]
    open_gate(staging_site)
    await until(host, token, "exited")
    assert (await start(host, token)).outcome == "already"
    (staging_site.root / token / "pid").unlink()
    assert (await start(host, token)).outcome == "already", "an exit status alone is proof enough"
    assert len(starts(staging_site)) == 1


async def test_twenty_starts_at_once_run_once(host: SshStagingHost, staging_site: StagingSite) -> None:
    """One of twenty says `started`."""
    staging_site.install(GATED)
    token = new_token()
    outcomes = [answer.outcome for answer in await asyncio.gather(*(start(host, token) for _ in range(20)))]
    assert sorted(outcomes) == ["already"] * 19 + ["started"]
    open_gate(staging_site)
    await until(host, token, "exited")
    assert len(starts(staging_site)) == 1


async def test_a_third_run_finds_the_slots_busy(host: SshStagingHost, staging_site: StagingSite) -> None:
    """Three at once for two slots: one is `busy` and leaves no folder; it starts when a slot is free."""
    staging_site.install(GATED)
    tokens = [new_token() for _ in range(3)]
    answers = await asyncio.gather(*(start(host, token, f"{n + 1}") for n, token in enumerate(tokens)))
    assert sorted(answer.outcome for answer in answers) == ["busy", "started", "started"]
    busy = next(n for n, answer in enumerate(answers) if answer.outcome == "busy")
    assert (answers[busy].ours, answers[busy].foreign) == (2, 0)
    assert not (staging_site.root / tokens[busy]).exists()
    assert {run.slot for run in (await host.list()).runs} == {0, 1}
    first = next(n for n in range(3) if n != busy)
    open_gate(staging_site, f"{first + 1}")
    await until(host, tokens[first], "exited")
    while (answer := await start(host, tokens[busy], f"{busy + 1}")).outcome == "busy":
        await asyncio.sleep(0.02)
    assert answer.outcome == "started"


async def test_slot_stays_taken_until_the_last_process_is_gone(host: SshStagingHost, staging_site: StagingSite) -> None:
    """A run that leaves a process behind has ended, but its slot is not free."""
    staging_site.install(
        '#!/bin/bash\n(until [ -e "$HOME/gate.$3" ]; do sleep 0.05; done) >/dev/null 2>&1 &\necho "slot $AOG_SLOT_FD"\n'
    )
    token = new_token()
    await start(host, token)
    assert (await whole_log(host, token)).startswith(b"slot ")
    assert (await until(host, token, "exited")).exit_status == 0
    assert (await host.list()).free == 1
    open_gate(staging_site)
    while (await host.list()).free != 2:
        await asyncio.sleep(0.02)


BY_HAND: dict[str, Callable[[str], list[str]]] = {
    "by name": lambda command: [command, "P", "M", "1"],
    "bash": lambda command: ["bash", "-eu", "-o", "pipefail", f"bin/{command}", "P", "M", "1"],
    "nohup": lambda command: ["nohup", command, "P", "M", "1"],
    "subshell": lambda command: ["bash", "-c", f"( {command} P M 1; true ) | cat; true"],
    "background": lambda command: ["sh", "-c", f"{command} P M 1 & wait"],
    "timeout": lambda command: ["timeout", "60", command, "P", "M", "1"],
}
NOT_BY_HAND: dict[str, Callable[[str], list[str]]] = {
    "tail": lambda command: ["tail", "-f", f"bin/{command}"],
    "sleeping shell": lambda command: ["sh", "-c", f"sleep 60; : {command}"],
    "longer name": lambda command: ["bash", "-c", f"exec -a my{command} sleep 60"],
    "argument": lambda command: ["sh", "-c", "sleep 60; true", command],
}


@pytest.mark.parametrize("way", BY_HAND)
async def test_each_run_by_hand_counts_once(host: SshStagingHost, staging_site: StagingSite, way: str) -> None:
    """However somebody types it, it is one run: it takes one place, and ours waits."""
    # a subshell of its own must not count as another run
    staging_site.install(
        '#!/bin/bash\n( echo up >> "$HOME/up"; until [ -e "$HOME/gate.$3" ]; do sleep 0.05; done ); true\n'
    )
    for number in (1, 2):
        staging_site.as_account(BY_HAND[way](staging_site.command))
        while not (staging_site.home / "up").exists() or len((staging_site.home / "up").read_bytes()) < 3 * number:
            await asyncio.sleep(0.02)
        runs = await host.list()
        assert (len(runs.foreign), runs.free) == (number, 2 - number)
        assert all(staging_site.command in run.command for run in runs.foreign)
    token = new_token()
    answer = await start(host, token, "2")
    assert (answer.outcome, answer.ours, answer.foreign) == ("busy", 0, 2)
    open_gate(staging_site, "1")
    while (answer := await start(host, token, "2")).outcome == "busy":
        await asyncio.sleep(0.02)
    assert answer.outcome == "started"


@pytest.mark.parametrize("way", NOT_BY_HAND)
async def test_what_only_names_the_command_does_not_count(
    host: SshStagingHost, staging_site: StagingSite, way: str
) -> None:
    """An editor, a pager, an argument: none is a run."""
    process = staging_site.as_account(NOT_BY_HAND[way](staging_site.command))
    while staging_site.command.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
        await asyncio.sleep(0.02)
    assert (await host.list()).foreign == ()


async def test_three_by_hand_leave_no_place(host: SshStagingHost, staging_site: StagingSite) -> None:
    """More than the slots, and one of ours beside them: free is 0, never less."""
    staging_site.install(GATED)
    token = new_token()
    await start(host, token)
    for _ in range(3):
        staging_site.as_account([staging_site.command, "P", "M", "1"])
    while len(starts(staging_site)) < 4:
        await asyncio.sleep(0.02)
    runs = await host.list()
    assert (len(runs.runs), len(runs.foreign), runs.free) == (1, 3, 0)


async def test_stop_ends_our_group_only(host: SshStagingHost, staging_site: StagingSite) -> None:
    """TERM ends the run and its exit status is recorded, with who asked; one started by hand goes on."""
    staging_site.install(GATED)
    token = new_token()
    await start(host, token)
    staging_site.as_account([staging_site.command, "P", "M", "1"])
    while len(starts(staging_site)) < 2:
        await asyncio.sleep(0.02)
    run = await host.stop(token)
    assert (run.state, run.exit_status, run.stopped_by) == ("exited", 143, OPERATOR)
    runs = await host.list()
    assert (len(runs.foreign), runs.free) == (1, 1)
    assert (await host.stop(token)) == run, "a second stop changes nothing"


async def test_stop_by_force(host: SshStagingHost, staging_site: StagingSite) -> None:
    """What ignores TERM is killed after the grace; the exit status is recorded even so."""
    staging_site.install("#!/bin/bash\ntrap '' TERM\necho deaf\nwhile :; do sleep 0.1; done\n")
    with short_grace(staging_site):
        token = new_token()
        await start(host, token)
        async with contextlib.aclosing(host.log(token, 0)) as log:
            assert await anext(log) == b"deaf\n"
        run = await host.stop(token)
        assert (run.state, run.exit_status) == ("exited", 137)


@contextlib.contextmanager
def short_grace(site: StagingSite) -> Iterator[None]:
    """One second of it where aogremote is installed; the one that is sent along has all ten."""
    program = site.home / "aogremote"
    text = program.read_text()
    assert '"$tries" -ne 100' in text
    program.write_text(text.replace('"$tries" -ne 100', '"$tries" -ne 10'))
    try:
        yield
    finally:
        program.write_text(text)


async def test_what_a_process_substitution_writes_is_in_the_log(
    host: SshStagingHost, staging_site: StagingSite
) -> None:
    """`tee` may still be writing when the command has ended: the end waits for it."""
    staging_site.install(
        '#!/bin/bash\nexec > >(while read -r line; do sleep 0.2; echo "slow $line"; done)\necho one\necho two\n'
    )
    token = new_token()
    await start(host, token)
    assert await whole_log(host, token) == b"slow one\nslow two\n"
    assert (await until(host, token, "exited")).log_bytes == len(b"slow one\nslow two\n")


async def test_log_from_every_offset(host: SshStagingHost, staging_site: StagingSite) -> None:
    """From any byte on, to the end; beyond the end is an error, and so is a run that is not there."""
    staging_site.install("#!/bin/bash\nprintf 'a\\0\\nb\\r\\xff'\n")
    token = new_token()
    await start(host, token)
    whole = b"a\0\nb\r\xff"
    assert await whole_log(host, token) == whole
    for offset in range(len(whole) + 1):
        assert await whole_log(host, token, offset) == whole[offset:]
    with pytest.raises(StagingError, match="has only 6 bytes"):
        await whole_log(host, token, len(whole) + 1)
    with pytest.raises(StagingError, match="there is no run"):
        await whole_log(host, new_token())


async def test_an_abandoned_log_frees_its_channel(host: SshStagingHost, staging_site: StagingSite) -> None:
    """Many silent logs are opened and left: the connection's channels do not run out."""
    staging_site.install(GATED)
    token = new_token()
    await start(host, token)
    for _ in range(25):
        async with contextlib.aclosing(host.log(token, 0)) as log:
            assert await anext(log)
    assert (await host.status(token)).state == "running"


async def test_a_killed_wrapper_is_a_lost_run(host: SshStagingHost, staging_site: StagingSite) -> None:
    """While the command lives the run does; then nobody knows how it ended: `lost`, and never started again."""
    staging_site.install(GATED)
    token = new_token()
    await start(host, token)
    while not starts(staging_site):
        await asyncio.sleep(0.02)
    run = await host.status(token)
    assert run.pid
    staging_site.kill(run.pid)
    assert (await host.status(token)).state == "running"
    open_gate(staging_site)
    assert (await whole_log(host, token)).endswith(b"15270\n")
    run = await until(host, token, "lost")
    assert (run.why, run.exit_status, run.log_bytes) == ("killed", None, len(staging_site.run_log(token)))
    assert (await start(host, token)).outcome == "already"
    assert len(starts(staging_site)) == 1


async def test_after_a_reboot_a_run_is_lost(host: SshStagingHost, staging_site: StagingSite) -> None:
    """Another boot id and no exit status: `lost`, although the pid is in use; stop signals nobody; no new start."""
    staging_site.install(GATED)
    token = new_token()
    await start(host, token)
    noted = staging_site.root / token / "pid"
    pid, started, _, slot = noted.read_text().splitlines()
    noted.write_text(f"{pid}\n{started}\n00000000-0000-4000-8000-000000000000\n{slot}\n")
    run = await host.status(token)
    assert (run.state, run.why) == ("lost", "reboot")
    assert await whole_log(host, token) == staging_site.run_log(token)
    assert (await host.stop(token)).state == "lost"
    assert Path(f"/proc/{pid}").exists()
    assert (await start(host, token)).outcome == "already"


async def test_a_reused_pid_is_not_alive(host: SshStagingHost, staging_site: StagingSite) -> None:
    """The noted pid belongs to another process, of another start time: `lost`, and that process is not touched."""
    token = new_token()
    await start(host, token)
    await until(host, token, "exited")
    folder = staging_site.root / token
    _, _, boot, slot = (folder / "pid").read_text().splitlines()
    other = staging_site.as_account(["sleep", "60"])
    (folder / "pid").write_text(f"{other.pid}\n1\n{boot}\n{slot}\n")
    (folder / "exit").unlink()
    run = await host.status(token)
    assert (run.state, run.why) == ("lost", "killed")
    await host.stop(token)
    assert other.poll() is None


async def test_a_folder_without_pid_was_never_started(host: SshStagingHost, staging_site: StagingSite) -> None:
    """A start that died before it noted the pid left a folder: the token is absent, and can be started."""
    token = new_token()
    await host.hello("journal")
    folder = staging_site.root / token
    folder.mkdir()
    (folder / "lock").touch()
    staging_site.hand_over()
    assert (await host.status(token)).state == "absent"
    assert (await start(host, token)).outcome == "started"


async def test_missing_command_is_told(host: SshStagingHost, staging_site: StagingSite) -> None:
    """A staging command that is not there starts nothing and leaves no folder."""
    staging_site.install().unlink()
    token = new_token()
    assert not (await host.hello()).tools["command"]
    with pytest.raises(StagingError, match="not found"):
        await start(host, token)
    assert not (staging_site.root / token).exists()


async def test_staged_directories_and_keep(host: SshStagingHost, staging_site: StagingSite, tmp_path: Path) -> None:
    """Only 32 hex digits, no symlinks; `.donotremove` comes and goes; nothing outside the web root is touched."""
    name, linked = new_token(), new_token()
    (staging_site.web_root / name).mkdir()
    (staging_site.web_root / "README").mkdir()
    (staging_site.web_root / linked).symlink_to(tmp_path)
    staging_site.hand_over()
    assert [(found.name, found.kept) for found in await host.staged()] == [(name, False)]
    await host.keep(name, True)
    await host.keep(name, True)
    assert [(found.name, found.kept) for found in await host.staged()] == [(name, True)]
    await host.keep(name, False)
    await host.keep(name, False)
    assert not (await host.staged())[0].kept
    for wrong in (linked, new_token()):
        with pytest.raises(StagingError, match="no staged directory"):
            await host.keep(wrong, True)
    assert not list(tmp_path.iterdir())


async def test_a_directory_that_goes_is_not_said_to_be_kept(staging_site: StagingSite) -> None:
    """The deletion takes it out of reach in the moment in which it is to be kept."""
    name = new_token()
    (staging_site.web_root / name).mkdir()
    staging_site.hand_over()
    program = staging_site.home / "aogremote"
    text, marking = program.read_text(), "(set -C && : >.donotremove)"
    assert text.count(marking) == 1
    program.write_text(text.replace(marking, f'mv "$top/$1" "$top/.deleting-$1" && {marking}'))
    host = SshStagingHost(staging_site.settings("forced"))
    with pytest.raises(StagingError, match="is being deleted"):
        await host.keep(name, True)
    await host.close()


async def test_a_directory_that_is_kept_keeps_its_time(host: SshStagingHost, staging_site: StagingSite) -> None:
    """It is the moment at which it was staged: its days go on being counted from there. Any mark is one."""
    name, linked = sorted(new_token() for _ in range(2))
    staged, odd = 1_790_856_000, -86_400
    for directory in (staging_site.web_root / name, staging_site.web_root / linked):
        directory.mkdir()
    (staging_site.web_root / linked / ".donotremove").symlink_to("nowhere")
    staging_site.hand_over()
    os.utime(staging_site.web_root / name, (staged, staged))
    os.utime(staging_site.web_root / linked, (odd, odd))
    for keep in (True, True, False, False):
        await host.keep(name, keep)
        await host.keep(linked, True)
        assert await host.staged() == (StagedDirectory(name, keep, staged), StagedDirectory(linked, True, odd))
    await host.keep(linked, False)
    assert not any(found.kept for found in await host.staged())


async def test_a_web_root_that_is_not_there_is_not_an_empty_one(
    host: SshStagingHost, staging_site: StagingSite
) -> None:
    """What was staged is not taken for deleted when its disk is not mounted."""
    staging_site.web_root.rmdir()
    with pytest.raises(StagingError, match="web root is not there"):
        await host.staged()


async def test_the_command_runs_as_if_typed(host: SshStagingHost, staging_site: StagingSite) -> None:
    """From the home, with the login's umask and PATH, not aogremote's; standard input is empty."""
    staging_site.install('#!/bin/bash\necho "$PWD $(umask) ${LC_ALL-none} $(wc -c) ${SSH_ORIGINAL_COMMAND-none}"\n')
    (staging_site.home / ".profile").write_text('echo noise\nPATH="$HOME/more:$PATH"\n')
    token = new_token()
    await start(host, token)
    assert (await whole_log(host, token)).decode().split() == [str(staging_site.home), "0022", "none", "0", "none"]


async def test_a_host_that_is_not_ours_is_explained(staging_site: StagingSite) -> None:
    """The words of one way sent the other way: one sentence that names the setting."""
    ways: list[tuple[Literal["forced", "plain"], Literal["forced", "plain"]]] = [
        ("forced", "plain"),
        ("plain", "forced"),
    ]
    for remote, key in ways:
        settings = replace(staging_site.settings(remote), key=str(staging_site.key(key)))
        adapter = SshStagingHost(settings)
        with pytest.raises(StagingError) as caught:
            await adapter.list()
        assert "staging.remote" in caught.value.hint
        await adapter.close()


# What aogremote would be without one of its cares, and the test that must notice.
BROKEN = {
    "starts again what has ended": (
        '[ "$run_state" = absent ] || answer_start already',
        "",
        test_start_twice_runs_once,
    ),
    "counts nobody else": (
        "    find_foreign\n",
        "    foreign_slots=0 foreign_count=0 foreign=\n",
        test_three_by_hand_leave_no_place,
    ),
    "trusts a pid of another boot": ('[ "$run_boot" != "$boot" ]', "false", test_after_a_reboot_a_run_is_lost),
    "trusts a pid alone": (' && [ "$started" = "$run_started" ]', "", test_a_reused_pid_is_not_alive),
    "lets a mark be the day": ('touch -m -d "@$since" .', "true", test_a_directory_that_is_kept_keeps_its_time),
    "takes every end for one of now": (
        'say ended_ago "$ago"',
        "say ended_ago 0",
        test_a_run_that_has_ended_tells_how_long_ago,
    ),
    "gives no slot away": ("flock -n 7 && return 0", "return 0", test_a_third_run_finds_the_slots_busy),
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_broken_host_is_caught(staging_site: StagingSite, fault: str) -> None:
    """This suite notices a host that keeps its word but for one fault."""
    right, wrong, noticing = BROKEN[fault]
    program = staging_site.home / "aogremote"
    text = program.read_text()
    assert text.count(right) == 1
    program.write_text(text.replace(right, wrong))
    host = SshStagingHost(staging_site.settings("forced"))
    with pytest.raises(AssertionError):
        async with asyncio.timeout(20):
            await noticing(host, staging_site)
    await host.close()
