"""Several processes on one journal: one wins, the others are told; one engine, and one that takes over."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

from tests.support.desk import Desk, request_mail

ROUNDS = 300
RACER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from aogconsole import config, site
    from aogconsole.errors import AogError
    from aogconsole.journal.history import Actor
    from aogconsole.journal.store import Journal

    loaded = config.load(Path(sys.argv[1]))
    journal = Journal.open(loaded.journal_path)
    desk = site.desk(loaded, journal, Actor(sys.argv[2], "race"))
    request = int(sys.argv[3])
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            getattr(desk, line.strip())(request, *([] if line.strip() == "release" else ["race"]))
            print(0, flush=True)
        except AogError as error:
            print(error.exit_code, error, flush=True)
""")


def test_of_two_processes_acting_on_one_request_one_wins_each_time(desk: Desk) -> None:
    """300 times: exactly one does it, the other exits 5 and says who won; the history verifies."""
    desk.configure(policy="ask")
    desk.call("ingest", "-", stdin=request_mail())
    (request,) = desk.json("requests")
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, str(desk.config), who, request["id"]], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True, env=desk.environment)
        for who in ("ann@aog1", "bob@aog2")
    ]  # fmt: skip
    try:
        for racer in racers:
            assert racer.stdout
            assert racer.stdout.readline() == "ready\n"
        for number in range(ROUNDS):
            verb = "release" if number % 2 else "hold"
            for racer in racers:
                assert racer.stdin
                racer.stdin.write(f"{verb}\n")
                racer.stdin.flush()
            answers = [racer.stdout.readline() for racer in racers if racer.stdout]
            assert sorted(answer[0] for answer in answers) == ["0", "5"], answers
            lost = next(answer for answer in answers if answer[0] == "5")
            winner = ("ann@aog1", "bob@aog2")[[answer[0] for answer in answers].index("0")]
            assert f"{winner} did '{verb}'" in lost
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    assert desk.json("history", "--verify")["ok"]


def test_the_command_exits_5_and_says_who_was_first(desk: Desk) -> None:
    """The same by the command: the second `hold` is a conflict with the first's name in it."""
    desk.configure(policy="ask")
    desk.call("ingest", "-", stdin=request_mail())
    (request,) = desk.json("requests")
    calls = [
        subprocess.Popen(
            desk.argv("hold", request["id"], "--why", "race"),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=desk.environment,
        )
        for _ in range(2)
    ]
    errors = [call.communicate(timeout=30)[1].decode() for call in calls]
    assert sorted(call.returncode for call in calls) == [0, 5]
    assert "did 'hold'" in next(error for error in errors if error)


def test_an_engine_stands_by_and_takes_over(desk: Desk) -> None:
    """While one engine holds the lock another waits; killed, the other goes on within five seconds."""
    first = desk.start_serve()
    desk.wait(lambda: "the engine runs" in desk.log())
    second = desk.start_serve()
    desk.wait(lambda: "standing by" in desk.log())
    desk.deliver(request_mail(ticket="193"))
    desk.wait(lambda: desk.requests().get("193", {}).get("state") == "staging")
    run = desk.requests()["193"]["run"]
    desk.wait(lambda: b"phase          checking for existing data\n" in desk.call("run", run).stdout)
    first.kill()
    first.wait()
    desk.wait(lambda: desk.log().count("the engine runs") == 2, seconds=5)
    (desk.host.home / "go.193").touch()
    desk.wait(lambda: desk.requests()["193"]["state"] == "closed")
    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0
    assert desk.calls("193") == 1


def test_a_second_journal_on_the_same_staging_host_is_refused(desk: Desk) -> None:
    """The run folder records whose it is: `serve` on another journal ends with exit code 3."""
    desk.deliver(request_mail())
    desk.serve_until_idle()
    desk.configure("auto", "forced", 0, **{"state/journal.db": "other/journal.db"})
    other = desk.start_serve()
    assert other.wait(30) == 3
    assert "belongs to another journal" in desk.log()


def test_read_only_changes_nothing(desk: Desk) -> None:
    """Verbs that act are refused with --read-only, and not a byte of the journal changes."""
    desk.call("ingest", "-", stdin=request_mail())
    file = desk.folder / "state" / "journal.db"
    before = file.read_bytes()
    for words in (["requests"], ["mails"], ["history", "--verify"], ["handover"], ["show", "2"]):
        desk.call("--read-only", *words)
    refused = desk.call("--read-only", "hold", "2", "--why", "x", expect=2)
    assert b"read-only" in refused.stderr
    assert file.read_bytes() == before


def test_paused_the_engine_takes_no_new_step(desk: Desk) -> None:
    """Mail stays where it is until `resume`."""
    desk.call("pause")
    with desk.serving():
        desk.wait(lambda: "the engine runs" in desk.log())
        desk.deliver(request_mail())
        assert desk.json("mails") == []
        desk.call("resume")
        desk.wait(lambda: [one["state"] for one in desk.json("requests")] == ["closed"])
