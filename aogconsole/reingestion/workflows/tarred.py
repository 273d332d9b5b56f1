"""An ASDM's tables out of one tar file, as it comes: nothing of it is held or written to disk."""

from __future__ import annotations

import asyncio
import lzma
import os
import tarfile
import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import PurePosixPath
from typing import Final

from aogconsole.reingestion.workflows.asdm import FIELDS, LARGEST, AsdmError, Row, TableReader, fault
from aogconsole.reingestion.workflows.assembling import check_container

_CHUNK: Final = 1 << 16
_FURTHEST: Final = 1 << 37
"""Bytes, unpacked, that are passed by on the way to the tables."""
_LONGEST_HEAD: Final = 1 << 20
"""Bytes of what precedes a member and is held as a whole: long names, and pax's attributes."""
_HEADS: Final = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
)


class _Member(tarfile.TarInfo):
    """A member; a head that would fill the memory is refused before it is read."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _HEADS and self.size > _LONGEST_HEAD:
            raise AsdmError(
                f"The ASDM's tar file has a head of {self.size} bytes.", "compare it with the archive's original"
            )
        return super()._proc_member(tar)  # type: ignore[misc,no-any-return]


async def tables_of_tar(uid: str, chunks: AsyncIterator[bytes]) -> dict[str, list[Row]]:
    """The tables that are in it. The rest is not asked for once all are there. Raises AsdmError."""
    ours, theirs = os.pipe()
    reading = asyncio.create_task(asyncio.to_thread(_read, uid, ours))
    try:
        async with aclosing(chunks) as file:  # type: ignore[type-var]
            async for chunk in file:
                await asyncio.to_thread(_give, theirs, chunk)
    except BrokenPipeError:
        pass  # the reader has what it needs, or has met a fault
    finally:
        os.close(theirs)
        await asyncio.wait({reading})
        reading.exception()  # seen: what ended the file says more than that it ended
    return reading.result()


def _give(pipe: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(pipe, view) :]


def _read(uid: str, pipe: int) -> dict[str, list[Row]]:
    tables: dict[str, list[Row]] = {}
    try:
        with os.fdopen(pipe, "rb") as stream, tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Member) as tar:
            for member in tar:
                if member.offset_data + member.size > _FURTHEST:
                    raise AsdmError("The ASDM's tar file is too large.", "compare it with the archive's original")
                path = PurePosixPath(member.name)
                if member.isreg() and path.suffix == ".xml" and path.stem in FIELDS and path.stem not in tables:
                    tables[path.stem] = _table(uid, path.stem, tar, member)
                    if len(tables) == len(FIELDS):
                        break
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise AsdmError(
            "The ASDM's tar file is truncated or no tar file.", "compare it with the archive's original"
        ) from error
    return tables


def _table(uid: str, table: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> list[Row]:
    if member.size > LARGEST:
        raise fault(table, f"is larger than {LARGEST >> 20} MiB")
    reader = TableReader(table)
    file = tar.extractfile(member)
    while file is not None and (data := file.read(_CHUNK)):
        reader.feed(data)
    rows = reader.close()
    check_container(uid, table, reader.container)
    return rows
