"""The worker process that parses mails, and what happens to it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aogconsole.errors import OutsideError
from aogconsole.mailparser import MailParser
from aogconsole.requests.mail import MailLimits, parse_mail

MAIL = b"From: helper@eso.org\r\nSubject: hello\r\nMessage-ID: <m@eso.org>\r\n\r\nDear AOG\r\n"


async def gone(pid: int) -> bool:
    """Wait until a process has ended (or is a zombie nobody waits for)."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except FileNotFoundError:
            return True
        await asyncio.sleep(0.01)
    return False


async def test_one_worker_reads_mail_after_mail() -> None:
    """The same as in our own process, by one and the same worker, also for many callers at once."""
    async with MailParser() as parser:
        pid = parser.pid
        assert await parser.parse(MAIL) == parse_mail(MAIL)
        mails = [MAIL + b"%d" % number for number in range(20)]
        assert await asyncio.gather(*map(parser.parse, mails)) == [parse_mail(mail) for mail in mails]
        assert parser.pid == pid
    assert pid
    assert await gone(pid)


async def test_a_mail_that_takes_too_long_is_given_up() -> None:
    """It comes back with what its headers say, for a person; the next mail is read by a new worker."""
    async with MailParser(seconds=1) as parser:
        stuck = parser.pid
        assert stuck
        os.kill(stuck, signal.SIGSTOP)
        started = time.monotonic()
        mail = await parser.parse(MAIL)
        assert time.monotonic() - started < 5
        assert mail.problems == ("reading it took longer than 1 s",)
        assert (mail.message_id, mail.from_address, mail.subject) == ("<m@eso.org>", "helper@eso.org", "hello")
        assert await gone(stuck)
        assert (await parser.parse(MAIL)).problems == ()


async def test_a_worker_that_died_before_the_mail_is_replaced() -> None:
    """A mail is not blamed for a worker that was dead before it came."""
    async with MailParser() as parser:
        assert parser.pid
        os.kill(parser.pid, signal.SIGKILL)
        assert (await parser.parse(MAIL)).problems == ()


async def test_a_mail_that_kills_every_worker_is_accounted_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With too little memory for it, each worker dies of the mail: it comes back for a person."""
    monkeypatch.setattr("aogconsole.mailparser._WORKER", "tests.support.frail_mailworker")
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    async with MailParser() as parser:
        mail = await parser.parse(MAIL + b"deadly")
        assert mail.problems == ("it stopped the program that reads mails",)
        assert mail.message_id == "<m@eso.org>"
        assert (await parser.parse(MAIL)).problems == ()


async def test_a_cancelled_parse_leaves_no_answer_behind() -> None:
    """After a cancellation the next mail gets its own answer, not the cancelled one's."""
    async with MailParser() as parser:
        task = asyncio.create_task(parser.parse(MAIL + b"x" * 5_000_000))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await parser.parse(MAIL) == parse_mail(MAIL)


async def test_size_and_limits_reach_the_worker() -> None:
    """A mail of which only the first part is there is told as larger than the limit."""
    limits = MailLimits(size=1000)
    async with MailParser(limits) as parser:
        assert await parser.parse(MAIL, size=50_000) == parse_mail(MAIL, limits, 50_000)
        big = await parser.parse(MAIL + b"x" * 50_000)
        assert big.problems == ("it is larger than 1000 bytes",)
        assert big.size == len(MAIL) + 50_000


async def test_the_worker_gets_no_secret_and_no_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our environment is not handed on; memory, files and cores are bounded."""
    monkeypatch.setenv("AOGCONSOLE_MAIL__INBOX_PASSWORD", "canary-secret")
    async with MailParser() as parser:
        assert b"canary" not in Path(f"/proc/{parser.pid}/environ").read_bytes()
        limits = Path(f"/proc/{parser.pid}/limits").read_text()
        bounded = {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()[1:]}
        assert bounded["Max address space"] == str(1 << 30)
        assert bounded["Max file size"] == "0"
        assert bounded["Max core file size"] == "0"


async def test_the_worker_dies_with_its_parent() -> None:
    """Killed without a chance to tidy up, a console leaves no worker behind."""
    program = (
        "import asyncio\n"
        "from aogconsole.mailparser import MailParser\n"
        "async def main():\n"
        "    async with MailParser() as parser:\n"
        "        print(parser.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:  # noqa: ASYNC220
        assert parent.stdout
        worker = int(await asyncio.to_thread(parent.stdout.readline))
        parent.kill()
    assert await gone(worker)


async def test_a_worker_that_does_not_start_blames_no_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    """The installation is at fault then: an error with a command to try, and no mail is used up."""
    monkeypatch.setattr("aogconsole.mailparser._WORKER", "aogconsole.absent")
    with pytest.raises(OutsideError, match="does not start") as caught:
        await MailParser().parse(MAIL)
    assert "aogconsole.absent" in caught.value.hint


async def test_the_worker_imports_little() -> None:
    """It starts fast because it loads neither asyncio nor the library for mails."""
    program = "import sys, aogconsole.mailworker; print(*{'asyncio', 'email', 'ssl', 'socket'} & set(sys.modules))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-P", "-c", program, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    assert output.strip() == b""
