"""Rows of a list in columns, as wide as there is room; `…` stands where something is cut."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

GAP = 2
"""Blanks between columns."""
NARROW = 10
"""Cells that a wide column keeps, if need be."""
ENOUGH = 40
"""Cells that a wide column keeps at the cost of spare ones."""
FIXED = 16
"""Columns up to here do not give way: numbers, times, words of ours."""


def fitting(widths: Sequence[int], spare: Sequence[int], room: int) -> list[int]:
    """Widths of columns so that a row fits into some room: `spare` ones go, wide ones give way. 0: left out."""
    shown = [min(width, max(room, FIXED)) for width in widths]

    def too_wide(most: int) -> bool:
        return sum(min(width, most) + GAP for width in shown if width) - GAP > room

    for place in spare:
        if too_wide(ENOUGH):
            shown[place] = 0
    wide = [place for place, width in enumerate(shown) if width > FIXED]
    while too_wide(room) and (widest := max(wide, key=shown.__getitem__, default=None)) is not None:
        if shown[widest] <= NARROW:
            break
        shown[widest] -= 1
    return shown


def in_columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    """A row in columns of these widths, the last not padded."""
    *padded, (last, room) = [pair for pair in zip(cells, widths, strict=True) if pair[1]]
    line = [cell.ljust(width) if cell.isascii() and len(cell) <= width else _cut(cell, width) for cell, width in padded]
    return (" " * GAP).join([*line, last if len(last) <= room // 2 else _cut(last, room)]).rstrip()


def _cut(cell: str, width: int) -> str:
    """A cell that is as wide; what differs at its end is cut in front."""
    if cell_len(cell) <= width:
        return set_cell_size(cell, width)
    if cell.startswith(("uid", "http")):
        return "…" + set_cell_size(cell[::-1], width - 1)[::-1]
    return set_cell_size(cell, width - 1) + "…"
