"""What the staging command prints: the lines of the procedure's two transcripts, to the letter, and ours between them.

Source: the seed, "Creation and staging of the MS(s)" and "What to do in case stagecalms completes with an error". The
seed shows no run that re-uses MSs: those lines are ours. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath

from aogconsole.stagecalms.job import Job, Node

LOOKING = "Looking for cluster node with low load ..."
RHEL5 = "Old project, using RHEL5 build of CASA."
GENERATING = "Now generating the calibrated MS(s) ..."
CHECKING = "Checking for pre-existing MSs for the following EBs ..."
REUSING = "All of the needed MSs were found among the already staged MSs."
REGENERATING = "None or not all of the needed MSs found: Will regenerate all the MSs ..."
COPYING = "Copying over the generated MSs ..."
DELETING_LOGS = "Deleting redundant logs ..."
DELETING_WORK = "Deleting temporary work directory ..."


def accessible(url: str) -> str:
    """The first line."""
    return f"The staging directory will be accessible at {url}"


def chosen(node: Node, user: str, directory: PurePosixPath) -> Iterator[str]:
    """The node, and the directory on it."""
    yield f"DATAMACHINE chosen: {node.name}"
    yield f"Working as {user}@{node.host} ..."
    yield f"(re-)creating directory {directory}"


def skipped(node: Node, why: str) -> str:
    """A node that was not asked further."""
    return f"Node {node} is skipped: {why}"


def left_out(block: str, qa0: str) -> str:
    """An execution block that is not calibrated."""
    return f"EB {block} is left out: its QA0 status is {qa0}"


def staged_already(block: str) -> str:
    """An execution block's MS that need not be generated."""
    return f"MS for {block} was found among the already staged MSs."


def not_staged(block: str) -> str:
    """The first that must be; the others are not looked for."""
    return f"MS for {block} was not found among the already staged MSs. Will not search further ..."


def waiting(mous: str) -> str:
    """Another run works on the same MOUS."""
    return f"Another stagecalms is staging MOUS {mous}: waiting for it, to use its MSs ..."


def cut(node: Node) -> str:
    """The connection to the run's node broke; what runs there goes on."""
    return f"Connection to node {node} lost: trying again ..."


def arrived_wrong(name: str) -> str:
    """A tar's checksum is not the one that was computed while it was packed."""
    return f"Checksum of {name} is wrong: copying it again ..."


def not_deleted(why: str) -> str:
    """Below DELETING_WORK: all is copied, and the working directory stays for now."""
    return f"This is left to the next stagecalms: {why}"


def completed(job: Job, url: str, days: int, now: datetime) -> Iterator[str]:
    """The completion block. The seed's last line has no blank before "unless"."""
    yield ""
    yield f"Staging of calibrated MS(s) for {job.project} {job.mous} helpdesk ticket #{job.ticket} completed"
    yield f"at {url}"
    at = now.astimezone(UTC)
    date = f"{at:%a %b} {at.day:2d} {at:%H:%M:%S} UTC {at:%Y}"
    yield f"Data will be deleted {days} days from {date}unless you put a .donotremove into the directory."


def failed(job: Job, directory: PurePosixPath, work: PurePosixPath | None) -> Iterator[str]:
    """The failure block. `work`: the working directory that stays, if there is one."""
    yield (
        f"Failed. Please investigate  {directory} and possibly remove incomplete data"
        f" belonging to MOUS {job.mous.database}"
    )
    if work is not None:
        yield f"The working directory {work} on the EU ARC cluster was not removed."


def error(sentence: str, details: Sequence[str] = ()) -> Iterator[str]:
    """Why it will fail, above the failure block."""
    yield f"ERROR: {sentence}"
    yield from details
