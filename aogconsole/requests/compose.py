"""The helpdesk's side: the request mail of the seed, to the letter, one per MOUS. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from email.utils import format_datetime

from aogconsole.errors import UsageError
from aogconsole.ids import AccountId, MousUid, ProjectCode, Ticket
from aogconsole.requests.addresses import is_address
from aogconsole.requests.intake import MOST_MOUSS
from aogconsole.requests.mime import message_ids

_MAIL = """\
From: {sender}
To: {address}
CC: {expert}
Subject: ALMA: REQUEST FOR CALIBRATED DATA MOUS {mous}
Date: {date}
Message-ID: {message_id}
MIME-Version: 1.0
Content-Type: text/plain; charset=us-ascii
Content-Transfer-Encoding: 7bit

Dear AOG,
please create the calibrated MS for MOUS {mous}
project {project}
for user {account}
helpdesk ticket {ticket}

Thanks!
"""


def compose(
    mouss: Sequence[MousUid],
    project: ProjectCode,
    account: AccountId,
    ticket: Ticket,
    *,
    sender: str,
    address: str,
    expert: str,
    message_ids: Sequence[str],
    date: datetime,
) -> list[bytes]:
    """One request mail per MOUS, RFC 5322 with CRLF: from `sender` to AOG's `address`, the `expert` in CC.

    `message_ids`: one for each, with angle brackets. Raises UsageError: none, more than 10, or one MOUS twice;
    an address that is none.
    """
    if not 1 <= len(mouss) <= MOST_MOUSS:
        raise UsageError(f"{len(mouss)} MOUSs were named", f"a ticket asks for 1 to {MOST_MOUSS} MOUSs")
    if len(set(mouss)) < len(mouss):
        raise UsageError("a MOUS was named twice", "name each MOUS once")
    for what, value in (("sender", sender), ("address", address), ("expert", expert)):
        if not is_address(value):
            raise UsageError(f"the {what}'s address is not a plain mail address", "write it like helper@eso.org")
    _check_ids(message_ids, len(mouss))
    return [
        _MAIL.format(
            sender=sender,
            address=address,
            expert=expert,
            mous=mous,
            date=format_datetime(date),
            message_id=message_id,
            project=project,
            account=account,
            ticket=ticket,
        )
        .replace("\n", "\r\n")
        .encode("ascii")
        for mous, message_id in zip(mouss, message_ids, strict=True)
    ]


def _check_ids(ids: Sequence[str], count: int) -> None:
    if len(set(ids)) != count or any(message_ids(text) != (text,) for text in ids):
        raise UsageError("the message ids are not usable", "give one different <id@host> for each MOUS")
