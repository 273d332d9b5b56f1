"""Room for the tars in the web root."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from aogconsole.errors import StorageError
from aogconsole.stagecalms import copying
from backends.cluster_ports import Packed


@pytest.mark.parametrize("megabytes", [8, 63, 100, 5000])
def test_what_is_needed_is_told_with_what_stays_free(
    megabytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reads of a full disk on which more is free than is needed."""
    tars = [Packed("uid___A002_X1_X2.ms.split.cal.tar", megabytes * 10**6, "0" * 64)]
    free = megabytes * 10**6 + 2 * 10**6
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=free, f_frsize=1))
    with pytest.raises(StorageError) as caught:
        copying.need_room(tmp_path, tars)
    found = re.search(r"need ([0-9.]+) GB, and ([0-9.]+) GB are free", str(caught.value))
    assert found
    assert float(found[1]) > float(found[2])
