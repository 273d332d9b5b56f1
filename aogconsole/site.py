"""Putting the site together from its configuration: which adapter stands behind each port.

Adapters are imported where they are built, so that a verb loads only the libraries it needs.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aogconsole import times
from aogconsole.config import Config, located
from aogconsole.desk import Desk
from aogconsole.errors import ConfigError, UsageError
from aogconsole.ids import AccountId, MousUid, ProjectCode, Ticket
from aogconsole.journal.history import Actor
from aogconsole.journal.store import Journal
from aogconsole.letterbook import LetterBook
from aogconsole.requests.addresses import is_address
from aogconsole.requests.letters import LetterKind, LetterRules, texts
from aogconsole.text import clean
from backends.ports import Archive, Inbox, Outbox, StagingHost

if TYPE_CHECKING:
    from aogconsole.engine.bench import Bench
    from aogconsole.mailroom import MailRoom


def letter_rules(config: Config) -> LetterRules:
    """The site's rules for letters, with its own texts where it has them."""
    mail = config.settings.mail
    for key, address in (("mail.address", mail.address), ("mail.expert", mail.expert)):
        if not is_address(address):
            raise ConfigError(f"{key} is '{clean(address)}', which is no mail address", "write it as name@example.org")
    return LetterRules(mail.address, mail.expert, mail.senders, mail.cc_refusals, _letter_texts(mail.letters))


def _letter_texts(folder: str) -> Mapping[LetterKind, str] | None:
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise ConfigError(f"mail.letters is {folder}, which is no folder", "make it, or leave the setting out")
    try:
        return texts({file.name: file.read_text(encoding="utf-8") for file in sorted(Path(folder).glob("*.txt"))})
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"a letter text in {folder} cannot be read: {clean(str(error))}", "make it a readable UTF-8 file"
        ) from None
    except UsageError as error:
        raise ConfigError(f"mail.letters is {folder}: {error}", error.hint) from None


def book(config: Config, journal: Journal, actor: Actor) -> LetterBook:
    """The letter book, as one actor."""
    settings = config.settings
    return LetterBook(journal, actor, letter_rules(config), settings.policy.timezone, settings.staging.command)


def desk(config: Config, journal: Journal, actor: Actor) -> Desk:
    """The operator's desk, as one actor."""
    return Desk(journal, actor, book(config, journal, actor))


def mail_room(config: Config, journal: Journal, actor: Actor) -> MailRoom:
    """The mail room, as one actor."""
    from aogconsole.mailroom import MailRoom
    from aogconsole.requests.intake import IntakeRules

    mail = config.settings.mail
    return MailRoom(journal, actor, IntakeRules(mail.address, mail.senders, mail.authserv or None))


def archive(config: Config) -> Archive:
    """The ALMA archive. Raises ConfigError when it is not configured."""
    from backends.oracle import OracleArchive, OracleSettings

    config.need("archive.dsn", "archive.user")
    given = config.settings.archive
    queries = Path(given.queries) if given.queries else None
    return OracleArchive(
        OracleSettings(given.dsn, given.user, config.secret("archive.password"), given.timeout, queries)
    )


def staging_host(config: Config, actor: Actor) -> StagingHost:
    """The staging host. Raises ConfigError."""
    from backends.ssh import SshSettings, SshStagingHost

    config.need("staging.host", "staging.user", "staging.known_hosts", "staging.command")
    given = config.settings.staging
    operator = "".join(one for one in actor.who if one.isascii() and (one.isalnum() or one in "@._-"))[:64]
    web_root = config.settings.stagecalms.web_root
    return SshStagingHost(SshSettings(
        given.host, given.port, given.user, given.key or None, given.known_hosts, given.root, given.slots,
        given.command, web_root, given.remote, operator,
    ))  # fmt: skip


def inbox(config: Config) -> Inbox:
    """The mailbox of requests. Raises ConfigError."""
    config.need("mail.inbox")
    mail = config.settings.mail
    if mail.inbox.startswith("maildir:"):
        from backends.maildir import MaildirInbox

        return MaildirInbox(maildir(config, mail.inbox))
    from backends.imap import ImapInbox

    return ImapInbox(mail.inbox, config.secret("mail.inbox_password"), mail.ca or None)


def outbox(config: Config) -> Outbox:
    """The way letters leave. Raises ConfigError."""
    config.need("mail.outgoing", "mail.address")
    mail = config.settings.mail
    if mail.outgoing.startswith("maildir:"):
        from backends.outbox_maildir import MaildirOutbox

        return MaildirOutbox(maildir(config, mail.outgoing))
    from backends.smtp import SmtpOutbox, SmtpSettings

    ca = Path(mail.ca) if mail.ca else None
    return SmtpOutbox(SmtpSettings.from_url(mail.outgoing, config.secret("mail.outgoing_password"), ca))


def maildir(config: Config, setting: str) -> Path:
    """The folder of a `maildir:PATH`, relative to the configuration's."""
    return located(setting.removeprefix("maildir:"), "the Maildir", config.folder)


def bench(config: Config, journal: Journal, actor: Actor) -> Bench:
    """The engine's workbench: what is configured of the outside, and nothing of what is not."""
    from aogconsole.engine.bench import Bench

    given = config.settings
    return Bench(
        journal=journal,
        settings=given,
        actor=actor,
        desk=desk(config, journal, Actor("policy", actor.via)),
        book=book(config, journal, actor),
        room=mail_room(config, journal, actor),
        inbox=inbox(config) if given.mail.inbox else None,
        archive=archive(config) if given.archive.dsn else None,
        host=staging_host(config, actor) if given.staging.host else None,
        outbox=outbox(config) if given.mail.outgoing else None,
    )


def compose(
    config: Config,
    mouss: Sequence[MousUid],
    project: ProjectCode,
    account: AccountId,
    ticket: Ticket,
    sender: str | None,
) -> list[tuple[str, bytes]]:
    """The helpdesk's request mails: Message-ID and bytes of each."""
    from aogconsole.requests.compose import compose as written

    mail = config.settings.mail
    domain = mail.address.rpartition("@")[2]
    ids = [f"<request-{secrets.token_hex(12)}@{domain}>" for _ in mouss]
    at: datetime = times.now()
    made = written(
        mouss, project, account, ticket, sender=sender or f"helpdesk@{domain}", address=mail.address,
        expert=mail.expert, message_ids=ids, date=at,
    )  # fmt: skip
    return list(zip(ids, made, strict=True))
