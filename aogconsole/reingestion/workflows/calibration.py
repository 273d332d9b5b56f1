"""The workflow of a calibration: what the archive holds of a MOUS, stored; then the MOUS is marked `Calibrated`.

Seed: "performs queries to populate calibrations & associated tables. The ASDMs for the calibrated MOUS are then marked
'Calibrated'". Safe to repeat. What the loader's checks found is checked again, for the archive goes on meanwhile.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aogconsole.errors import AogError
from aogconsole.ids import MousUid
from aogconsole.reingestion import rules
from aogconsole.reingestion.ingested import CALIBRATED, DO_NOT_CALIBRATE, Calibration
from aogconsole.reingestion.item import State, version_of
from backends.ingest_ports import Ingest
from backends.reingestion_ports import ArchiveNews, Metadata


class NotCalibrated(AogError):
    """The archive's state of a MOUS is not that of an official pipeline calibration: it is not marked."""


async def ingest_calibration(
    mous: MousUid, news: ArchiveNews, store: Ingest, metadata: Metadata, now: datetime
) -> dict[str, Any]:
    """Ingest it, and say what was found. Raises NotCalibrated, and OutsideError when it could not be tried."""
    uid = mous.database
    facts = (await news.facts([uid]))[uid]
    verdict = rules.judged(facts.science, in_structure=True, scripts=facts.scripts)
    files = await news.product_files(uid)
    version = version_of(max((file.created for file in files if file.created), default=None))
    hint = "it is tried again as what failed is; a newer file in the archive brings it again"
    if verdict.state is State.DO_NOT_CALIBRATE:
        marked = await metadata.mark(uid, DO_NOT_CALIBRATE, version, now)
        hint = "it is marked Do Not Calibrate" if marked else "a newer version has marked it: its mark stays"
    if verdict.state is not State.WAITING:
        raise NotCalibrated(f"{mous} is not ingested: {verdict.reason}", hint)
    blocks = await news.execution_blocks_of(uid)
    calibration = Calibration(uid, version, facts.project, tuple(files), tuple(blocks))
    await store.calibration(calibration, now)
    marked = await metadata.mark(uid, CALIBRATED, calibration.version, now)
    status, _ = (await metadata.marks([uid])).get(uid, (None, None))
    notes = [] if marked else ["a newer version has marked the MOUS: its mark stays"]
    if not blocks:
        notes.append("the archive has no execution block of this MOUS")
    return {
        "mous": mous.mail, "project": facts.project, "version": calibration.version or None, "files": len(files),
        "science_files": sum(1 for one in files if one.file_class == "science"),
        "bytes": sum(one.size or 0 for one in files),
        "execution_blocks": [MousUid.parse(one).mail for one in blocks],
        "calibration_status": status, "notes": notes,
    }  # fmt: skip
