"""Several mails in one stream: none is taken for a part of another."""

from __future__ import annotations

import mailbox
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from aogconsole.requests import mbox
from tests.support.desk import request_mail

BODY = st.lists(
    st.sampled_from([b"text", b"From me", b">From you", b"", b"From a@b Thu Jan  1 00:00:00 1970", b">>From x"])
)


@given(st.lists(BODY, min_size=1, max_size=4))
def test_what_is_joined_is_split_again(bodies: list[list[bytes]]) -> None:
    """Whatever stands in them: lines that look like the begin of a mail too."""
    mails = [b"\n".join([b"Subject: x", b"", b"a", *body, b"z"]) + b"\n" for body in bodies]
    assert mbox.split(mbox.join(mails)) == mails


def test_one_mail_is_one_mail() -> None:
    """As it is: with a line `From` that is none of a mailbox, with one at its top, and an empty one."""
    mail = b"Subject: x\n\nFrom then on:\n\nFrom a@b Thu Jan  1 00:00:00 1970\nall is well\n"
    assert mbox.split(mail) == [mail]
    assert mbox.split(b"From me on Monday\n\nhello\n") == [b"From me on Monday\n\nhello\n"]
    assert mbox.split(b"") == [b""]


def test_others_write_and_read_the_same(tmp_path: Path) -> None:
    """Python's own mailbox reads what is joined, and what it writes is split."""
    mails = [request_mail(ticket="1"), request_mail(ticket="2")]
    (tmp_path / "ours").write_bytes(mbox.join(mails))
    theirs = mailbox.mbox(tmp_path / "theirs")
    for read in mailbox.mbox(tmp_path / "ours"):
        theirs.add(read)
    theirs.flush()
    found = mbox.split((tmp_path / "theirs").read_bytes())
    assert [mail.count(b"helpdesk ticket") for mail in found] == [1, 1]
