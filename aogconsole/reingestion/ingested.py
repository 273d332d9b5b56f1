"""What the workflows put into the metadata database: execution blocks and calibrations, with what belongs to them.

Pure. Times are aware UTC. UIDs are as the archive has them, `uid://A002/X1/X2`; None is "the sources do not say".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

CALIBRATED, DO_NOT_CALIBRATE = "Calibrated", "Do Not Calibrate"
"""Marks of a MOUS, and of its execution blocks (seed: Calibrations)."""


@dataclass(frozen=True, slots=True)
class Antenna:
    """A row of Antenna.xml, with the name of its station."""

    number: int
    name: str | None
    make: str | None
    """`AEM_12`: who built it, and its size."""
    diameter: float | None
    """Of the dish, metres."""
    station: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """A source of Source.xml, without its repetition for each spectral window."""

    number: int
    name: str | None
    longitude: float | None
    latitude: float | None
    """Direction, radians."""
    frame: str | None
    """What the direction refers to, `ICRS`."""


@dataclass(frozen=True, slots=True)
class Scan:
    """A row of Scan.xml."""

    number: int
    started: datetime | None
    ended: datetime | None
    source: str | None
    intents: tuple[str, ...]
    """`OBSERVE_TARGET`, `CALIBRATE_PHASE`, ..."""


@dataclass(frozen=True, slots=True)
class Subscan:
    """A row of Subscan.xml."""

    scan: int
    number: int
    intent: str | None
    """`ON_SOURCE`, `REFERENCE`, ..."""
    field: str | None
    started: datetime | None
    ended: datetime | None


@dataclass(frozen=True, slots=True)
class ExecutionBlock:
    """An execution block: what its ASDM says, and where the archive says that it belongs."""

    uid: str
    project: str | None = None
    """The code, `2019.1.01234.S`: the archive's."""
    project_uid: str | None = None
    session: str | None = None
    mous: str | None = None
    scheduling_block: str | None = None
    started: datetime | None = None
    ended: datetime | None = None
    telescope: str | None = None
    array: str | None = None
    """The configuration's name, `C-1`, `7M`."""
    antenna_count: int | None = None
    qa0: str | None = None
    aborted: bool | None = None
    antennas: tuple[Antenna, ...] = ()
    bands: tuple[str, ...] = ()
    """Receiver bands, `ALMA_RB_06`."""
    sources: tuple[Source, ...] = ()
    scans: tuple[Scan, ...] = ()
    subscans: tuple[Subscan, ...] = ()


@dataclass(frozen=True, slots=True)
class ProductFile:
    """A row of ASA_PRODUCT_FILES."""

    ngas_file_id: str
    file_class: str | None
    created: datetime | None
    size: int | None
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibration of a MOUS as the archive holds it."""

    mous: str
    version: str
    """`item.version_of` of the newest file: a later delivery is another version."""
    project: str | None
    files: tuple[ProductFile, ...]
    execution_blocks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A start command that a site's server has taken, and what became of it."""

    workflow_id: str
    site: str
    workflow: str
    """`execution-block` or `calibration`: the verb that runs it; empty for one that we do not have."""
    uid: str
    metadata: Mapping[str, str]
    owner: str | None = None
    """The process that runs it: `HOST:PID:START`. None: never begun."""
    complete: bool | None = None
    """How it ended; None: not yet."""
    reason: str = ""
    told: bool = False
    """Whether the event of its end is published."""
