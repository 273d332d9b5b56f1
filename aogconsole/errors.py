"""One tree of errors, grouped by what the operator can do about each; the docstring says what that is.

The message of an error is one clear sentence; `hint` says what to do. The command line prints both and
exits with `exit_code` (contract: design section 5).
"""

from __future__ import annotations


class AogError(Exception):
    """Anything aogconsole can explain. Subclasses say whose turn it is."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(AogError):
    """The words of the command are wrong, or name something that is not there: correct the command."""

    exit_code = 2


class InvalidId(UsageError, ValueError):
    """A text is not the identifier it should be: correct it."""


class ConfigError(AogError):
    """The configuration, or a file it names, is wrong: correct it."""

    exit_code = 3


class OutsideError(AogError):
    """Something outside is unavailable: what was asked is *unknown*, not failed. Try again later."""

    exit_code = 4


class ArchiveError(OutsideError):
    """The ALMA archive could not be asked."""


class ArchiveLoginRefused(ArchiveError):
    """The archive refuses our account: correct it before trying again, for each try brings its lock nearer."""


class StagingError(OutsideError):
    """The staging host could not be asked, or answered what we do not understand."""


class HostKeyUnknown(StagingError):
    """The staging host's key is not in known_hosts: the administrator adds it after comparing it."""


class HostKeyChanged(StagingError):
    """The staging host shows another key than known_hosts has: somebody may be listening. Never accept."""


class MailError(OutsideError):
    """The mailbox or the mail server could not be used."""


class MailLoginRefused(MailError):
    """The mailbox refuses our account: correct it; tries in quick succession may lock it."""


class MetadataError(OutsideError):
    """The metadata database could not be used."""


class BrokerError(OutsideError):
    """RabbitMQ could not be used."""


class NoQueue(BrokerError):
    """The broker is there, and does not have a queue."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the broker has no queue {name}", "make it with `aogconsole broker declare`")


class LaunchError(OutsideError):
    """Workflows could not be launched or looked for: the scheduler, or a folder of theirs."""


class NgasError(OutsideError):
    """NGAS could not be asked, or gave less than it promised."""


class NgasMissing(NgasError):
    """NGAS has no such file."""


class StorageError(OutsideError):
    """The journal or a file beside it could not be written: disk full, read-only, damaged."""


class Conflict(AogError):
    """The thing is not in the state the action needs, or somebody else acted first: look again."""

    exit_code = 5
