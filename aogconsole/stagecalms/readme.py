"""The text of `_README.txt`, for the user who downloads. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from aogconsole.stagecalms.choice import Block
from aogconsole.stagecalms.job import Job


def readme(job: Job, tars: Sequence[tuple[str, int]], left_out: Sequence[Block], days: int, now: datetime) -> str:
    """What lies here, how it is checked and unpacked, until when. `tars`: names and bytes."""
    lines = [
        f"Calibrated data of ALMA project {job.project}",
        f"Member observation unit set (MOUS) {job.mous.database}",
        f"Helpdesk ticket #{job.ticket}",
        "",
        "Each file holds the calibrated MeasurementSet of one execution block:",
        "",
        *(f"  {name}  {size} bytes" for name, size in tars),
        "",
    ]
    if left_out:
        lines += [
            "Execution blocks that have not passed QA0 are not calibrated:",
            "",
            *(f"  {block.uid}  {block.qa0}" for block in left_out),
            "",
        ]
    lines += [
        "After the download, in the folder of the files:",
        "",
        "  sha256sum -c SHA256SUMS      compares them with what was staged",
        *(f"  tar -xf {name}" for name, _ in tars),
        "",
        "A MeasurementSet is a directory; CASA (https://casa.nrao.edu) opens it.",
        "stagecalms.log is the record of how the data were made and copied.",
        "",
        f"Staged on {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC. The data will be deleted {days} days later.",
        "Questions: through the helpdesk ticket.",
    ]
    return "\n".join(lines) + "\n"
