"""What the journal knows about mails seen before: the look-ups that intake's rules ask for."""

from __future__ import annotations

from collections.abc import Sequence

from aogconsole.ids import AccountId, MousUid, Ticket
from aogconsole.journal.store import Journal
from aogconsole.requests.intake import OwnLetter, SeenMail

SETTLED = "(checked_at is not null or state in ('received', 'checking'))"
"""A request whose fields were read with certainty, or accepted by a person: a stranger's mail settles nothing."""


class JournalKnown:
    """Answers from the journal; used inside the transaction that takes the mail, so that answers stay true."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def mail_with(self, message_id: str) -> SeenMail | None:
        """The first mail read with this Message-ID."""
        row = self._journal.one("select id, request from mail where message_id = ? order by id limit 1", message_id)
        return SeenMail(row["id"], row["request"]) if row else None

    def letter_with(self, message_ids: Sequence[str]) -> OwnLetter | None:
        """A letter of ours with one of these Message-IDs."""
        for message_id in message_ids:
            row = self._journal.one("select id, request from letter where message_id = ?", message_id)
            if row:
                return OwnLetter(row["id"], row["request"])
        return None

    def request_of_mail_with(self, message_ids: Sequence[str]) -> int | None:
        """The request that a mail with one of these Message-IDs made, or was attached to."""
        for message_id in message_ids:
            row = self._journal.one(
                "select request from mail where message_id = ? and request is not null limit 1", message_id
            )
            if row:
                return int(row["request"])
        return None

    def open_request(self, mous: MousUid, account: AccountId, ticket: Ticket) -> int | None:
        """An open request for the same data, user and ticket."""
        return self._same(f"state <> 'closed' and {SETTLED}", mous, account, ticket)

    def answered_with_link(self, mous: MousUid, account: AccountId, ticket: Ticket) -> int | None:
        """A closed request for the same, whose link letter went out."""
        sent = (
            "exists (select 1 from letter where letter.request = request.id and kind = 'link' and sent_at is not null)"
        )
        return self._same(f"state = 'closed' and {sent}", mous, account, ticket)

    def mouss_of(self, ticket: Ticket) -> frozenset[MousUid]:
        """The MOUSs asked for on a ticket so far."""
        rows = self._journal.all(
            f"select distinct mous from request where ticket = ? and mous is not null and {SETTLED}", ticket.value
        )
        return frozenset(MousUid.parse(row["mous"]) for row in rows)

    def _same(self, where: str, mous: MousUid, account: AccountId, ticket: Ticket) -> int | None:
        row = self._journal.one(
            f"select id from request where mous = ? and account = ? and ticket = ? and {where} order by id desc",
            mous.mail,
            account.value,
            ticket.value,
        )
        return int(row["id"]) if row else None
