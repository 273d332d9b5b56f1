"""The Maildir inbox on a real file system."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aogconsole.errors import MailError
from backends.maildir import MaildirInbox
from backends.ports import RawMail


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    """An empty Maildir."""
    for name in ("new", "cur", "tmp"):
        (tmp_path / "Maildir" / name).mkdir(parents=True)
    return tmp_path / "Maildir"


def put(folder: Path, name: str, data: bytes = b"Subject: x\n\ny\n", arrived: int = 1_700_000_000) -> Path:
    """A mail that arrived at a time of its own."""
    path = folder / name
    path.write_bytes(data)
    os.utime(path, (arrived, arrived))
    return path


async def read(inbox: MaildirInbox, known: frozenset[str] = frozenset()) -> list[RawMail]:
    """Everything unseen."""
    return [mail async for mail in inbox.unseen(known)]


async def test_order_of_arrival_and_keys_without_flags(maildir: Path) -> None:
    """New and read mails come in order of arrival, then name; flags are no part of the key."""
    put(maildir / "new", "3.c.host", b"c", 30)
    put(maildir / "cur", "2.b.host:2,S", b"b", 20)
    put(maildir / "new", "1.a.host", b"a", 20)
    put(maildir / "tmp", "0.unfinished", b"no")
    put(maildir / "new", ".hidden", b"no")
    mails = await read(MaildirInbox(maildir))
    assert [(mail.source, mail.raw) for mail in mails] == [
        ("maildir:1.a.host", b"a"),
        ("maildir:2.b.host", b"b"),
        ("maildir:3.c.host", b"c"),
    ]
    assert mails[0].received_at.timestamp() == 20
    assert mails[0].received_at.tzinfo is not None


async def test_a_mail_keeps_its_key_when_read_elsewhere(maildir: Path) -> None:
    """Another program moves a mail to cur: it is known still; one moved while we read is not lost."""
    path = put(maildir / "new", "1.a")
    inbox = MaildirInbox(maildir)
    [mail] = await read(inbox)
    path.rename(maildir / "cur" / "1.a:2,S")
    assert await read(inbox, frozenset([mail.source])) == []
    put(maildir / "new", "2.b", arrived=1_700_000_001)
    seen = []
    async for found in inbox.unseen(frozenset()):
        seen.append(found.source)
        if len(seen) == 1:
            (maildir / "new" / "2.b").rename(maildir / "cur" / "2.b:2,")
    assert seen == ["maildir:1.a"]
    assert [mail.source for mail in await read(inbox, frozenset(seen))] == ["maildir:2.b"]


async def test_links_and_other_things_are_not_mails(maildir: Path, tmp_path: Path) -> None:
    """Symbolic links, folders and pipes are left alone, and never followed."""
    secret = put(tmp_path, "secret", b"secret")
    (maildir / "new" / "link").symlink_to(secret)
    (maildir / "new" / "folder").mkdir()
    os.mkfifo(maildir / "new" / "pipe")
    assert await read(MaildirInbox(maildir)) == []


async def test_an_oversized_mail_is_read_in_part(maildir: Path) -> None:
    """Only the first bytes are read; the full size is told; nothing changes."""
    path = put(maildir / "new", "1.a", b"x" * 1000)
    [mail] = await read(MaildirInbox(maildir, limit=100))
    assert (len(mail.raw), mail.size) == (100, 1000)
    assert path.stat().st_mtime == 1_700_000_000


@contextmanager
def unprivileged() -> Iterator[None]:
    """For root, who may read everything: go on as nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_one_unreadable_mail_holds_up_no_other() -> None:
    """The others come; then a sentence names the one, which comes as soon as it can be read."""
    with tempfile.TemporaryDirectory() as name:
        maildir = Path(name)
        for folder in (maildir, maildir / "new", maildir / "cur"):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
        path = put(maildir / "new", "1.a")
        put(maildir / "new", "2.b")
        path.chmod(0)
        mails = MaildirInbox(maildir).unseen(frozenset())
        with unprivileged():
            assert (await anext(mails)).source == "maildir:2.b"
            with pytest.raises(MailError, match=r"1\.a: Permission denied"):
                await anext(mails)
        path.chmod(0o644)
        with unprivileged():
            assert len(await read(MaildirInbox(maildir))) == 2


async def test_no_maildir_is_said_with_a_hint(maildir: Path, tmp_path: Path) -> None:
    """A folder that is missing, no Maildir, or a link in place of `new`: one sentence and what to do."""
    (maildir / "new").rmdir()
    (maildir / "new").symlink_to(tmp_path)
    for path in (tmp_path, tmp_path / "absent", maildir):
        with pytest.raises(MailError, match="is no Maildir") as caught:
            await MaildirInbox(path).ping()
        assert caught.value.hint


async def test_many_known_mails_cost_little(maildir: Path) -> None:
    """With 20,000 known files one new one is found at the price of listing them: none of them is looked at."""
    for number in range(20_000):
        (maildir / "cur" / f"{number}.old:2,S").touch()
    known = frozenset(f"maildir:{number}.old" for number in range(20_000))
    put(maildir / "new", "new")
    started = time.perf_counter()
    listed = os.listdir(maildir / "cur")
    listing = time.perf_counter() - started
    started = time.perf_counter()
    [mail] = await read(MaildirInbox(maildir), known)
    took = time.perf_counter() - started
    assert mail.source == "maildir:new"
    assert len(listed) == 20_000
    assert took < 0.05 + 20 * listing
