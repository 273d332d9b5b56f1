"""The helpdesk's side."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aogconsole.errors import UsageError
from aogconsole.ids import AccountId, MousUid, ProjectCode, Ticket
from aogconsole.requests.compose import compose
from aogconsole.requests.intake import Fields, NewRequest, classify
from aogconsole.requests.mail import parse_mail
from tests.support.known import RULES, MemoryKnown

DATE = datetime(2019, 8, 5, 10, 0, tzinfo=UTC)
MOUS = MousUid.parse("uid___A001_X133d_X1244")
PROJECT, ACCOUNT, TICKET = ProjectCode.parse("2012.1.00357.S"), AccountId.parse("jdoe"), Ticket.parse("15270")


def composed(mouss: list[MousUid], ids: list[str] | None = None, sender: str = "helper@eso.org") -> list[bytes]:
    """Request mails from the helpdesk."""
    return compose(
        mouss,
        PROJECT,
        ACCOUNT,
        TICKET,
        sender=sender,
        address="aog@eso.org",
        expert="dpetry@eso.org",
        message_ids=ids if ids is not None else [f"<{number}@eso.org>" for number in range(len(mouss))],
        date=DATE,
    )


def test_the_seeds_mail_to_the_letter() -> None:
    """To, CC, subject and body are the procedure's."""
    [raw] = composed([MOUS])
    head, body = raw.decode("ascii").split("\r\n\r\n", 1)
    lines = head.split("\r\n")
    assert "To: aog@eso.org" in lines
    assert "CC: dpetry@eso.org" in lines
    assert "Subject: ALMA: REQUEST FOR CALIBRATED DATA MOUS uid___A001_X133d_X1244" in lines
    assert "Message-ID: <0@eso.org>" in lines
    assert "Date: Mon, 05 Aug 2019 10:00:00 +0000" in lines
    assert body.split("\r\n") == [
        "Dear AOG,",
        "please create the calibrated MS for MOUS uid___A001_X133d_X1244",
        "project 2012.1.00357.S",
        "for user jdoe",
        "helpdesk ticket 15270",
        "",
        "Thanks!",
        "",
    ]


HEX = st.from_regex(r"X[1-9a-f][0-9a-f]{0,11}", fullmatch=True)
UIDS = st.builds("uid___A00{}_{}_{}".format, st.integers(1, 9), HEX, HEX).map(MousUid.parse)


@given(
    st.lists(UIDS, min_size=1, max_size=10, unique=True),
    st.from_regex(r"[0-9]{4}\.[0-9A-Z]\.[0-9]{5}\.([STVLP]|[A-Z]{2,4})", fullmatch=True).map(ProjectCode.parse),
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,30}[A-Za-z0-9]", fullmatch=True).map(AccountId.parse),
    st.from_regex(r"[1-9][0-9]{0,11}", fullmatch=True).map(Ticket.parse),
)
def test_what_is_composed_is_read_back(
    mouss: list[MousUid], project: ProjectCode, account: AccountId, ticket: Ticket
) -> None:
    """Every mail becomes a request with the fields it was made of."""
    ids = [f"<{number}@eso.org>" for number in range(len(mouss))]
    mails = compose(mouss, project, account, ticket, sender="helper@eso.org", address="aog@eso.org",
                    expert="dpetry@eso.org", message_ids=ids, date=DATE)  # fmt: skip
    results = [classify(parse_mail(raw), MemoryKnown(), RULES) for raw in mails]
    assert results == [NewRequest(Fields(mous, project, account, ticket)) for mous in mouss]


def test_what_cannot_be_composed() -> None:
    """None, eleven, or one twice; addresses and ids that could smuggle a header: a usage error with a hint."""
    eleven = [MousUid.parse(f"uid___A001_X1_X{number:x}") for number in range(1, 12)]
    assert len(composed(eleven[:10])) == 10
    for mouss, ids, sender in [
        ([], None, "a@eso.org"),
        (eleven, None, "a@eso.org"),
        ([MOUS, MOUS], None, "a@eso.org"),
        ([MOUS], ["<a@b>\r\nBcc: <x@y>"], "a@eso.org"),
        ([MOUS], ["a@b"], "a@eso.org"),
        (eleven[:2], ["<a@b>", "<a@b>"], "a@eso.org"),
        ([MOUS], None, "a@eso.org\nBcc: x@y"),
        ([MOUS], None, ""),
    ]:
        with pytest.raises(UsageError) as caught:
            composed(mouss, ids, sender)
        assert caught.value.hint
