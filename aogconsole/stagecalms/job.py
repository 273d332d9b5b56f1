"""What one run of the staging command is asked for, and where it puts it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from aogconsole.errors import InvalidId
from aogconsole.ids import MousUid, ProjectCode, Ticket

TOKEN = re.compile("[0-9a-f]{32}", re.ASCII)
"""A run's token, and the name of its staging directory: who knows it can download."""
WORK = re.compile("WORK[1-9][0-9]{4,9}", re.ASCII)
"""The name of a working directory on a node, as in the seed (`WORK11018`)."""
MS = ".ms.split.cal"
"""What follows an execution block's UID in the name of its calibrated MeasurementSet."""
TAR = f"{MS}.tar"
"""... and in that of the tar that is staged."""


@dataclass(frozen=True, slots=True)
class Job:
    """`stagecalms PROJCODE MOUSUID HELPDESKTICKETNUM`, and the random name of the staging directory."""

    project: ProjectCode
    mous: MousUid
    ticket: Ticket
    token: str
    """32 hexadecimal digits."""

    @classmethod
    def parse(cls, project: str, mous: str, ticket: str, token: str) -> Job:
        """Raises InvalidId."""
        if not TOKEN.fullmatch(token):
            raise InvalidId("a staging directory's name is 32 hexadecimal digits")
        return cls(ProjectCode.parse(project), MousUid.parse(mous), Ticket.parse(ticket), token)

    def url(self, base: str) -> str:
        """Where it will be accessible; `base` is `stagecalms.url`."""
        return f"{base.rstrip('/')}/{self.token}"


@dataclass(frozen=True, slots=True)
class Node:
    """A cluster node as configured: `host`, or `host:port`."""

    host: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Node:
        """Raises InvalidId. An IPv6 address with a port is in brackets."""
        found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[0-9A-Za-z_][0-9A-Za-z_.-]*)(?::([0-9]{1,5}))?", text, re.ASCII)
        if not found or not 0 < int(found[2] or 22) < 65536:
            raise InvalidId(f"{text[:80]!r} is no node", "a node is a host, or host:port")
        return cls(found[1].strip("[]"), int(found[2]) if found[2] else None)

    @property
    def name(self) -> str:
        """As printed: the host without its domain (`arcp9`); an address stays whole."""
        numeric = re.fullmatch(r"[0-9.]+|.*:.*", self.host, re.ASCII)
        return self.host if numeric else self.host.partition(".")[0]

    def __str__(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Work:
    """A working directory on a node; the token in it tells whose it is."""

    node: Node
    directory: PurePosixPath
    """Absolute, its name is one of WORK."""
    token: str


@dataclass(frozen=True, slots=True)
class Generation:
    """What a working directory's worker is to do: call the calibrator, and pack what it leaves.

    The calibrator's contract (`docs/stagecalms.md`): started in the working directory with PROJECT MOUS EB... as
    words, it leaves a directory `<EB>.ms.split.cal` of each execution block there, and ends with 0.
    """

    calibrator: str
    """A command line for the node's shell, without the words."""
    project: ProjectCode
    mous: MousUid
    blocks: tuple[str, ...]
    """Execution blocks' UIDs, `uid___...`."""
