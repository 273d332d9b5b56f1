"""The keys of a log pane."""

from __future__ import annotations

from textual.binding import Binding

KEYS: tuple[Binding, ...] = (
    Binding("f", "follow", "follow", id="log.follow", tooltip="Follow new lines, or stay."),
    Binding("slash", "look_for('search')", "search", id="log.search", tooltip="Search; with a capital, case matters."),
    Binding("ampersand", "look_for('filter')", "filter", id="log.filter", tooltip="Show only the lines with a text."),
    Binding("exclamation_mark", "invert", "inverse", id="log.invert", tooltip="Show the lines without that text."),
    Binding("n", "seek(1)", "next hit", id="log.next", show=False),
    Binding("N", "seek(-1)", "previous hit", id="log.previous", show=False),
    Binding("right_square_bracket", "milestone(1)", "milestone", id="log.milestone_next", show=False),
    Binding("left_square_bracket", "milestone(-1)", "milestone before", id="log.milestone_previous", show=False),
    Binding("w", "wrap", "wrap", id="log.wrap", tooltip="Wrap long lines, or cut them."),
    Binding("t", "times", "times", id="log.times", tooltip="Show when each line arrived here, UTC."),
    Binding("z", "zoom", "zoom", id="log.zoom", tooltip="The whole screen for this pane, and back."),
    Binding("v", "mark", "select", id="log.select", tooltip="Begin to select lines; j and k go on, y copies."),
    Binding("y", "copy", "copy", id="log.copy", tooltip="Copy the selection, the current line or the page."),
    Binding("W", "export", "export", id="log.export", tooltip="Write the whole log into a file."),
    Binding("p", "pager", "pager", id="log.pager", tooltip="The whole log in $PAGER."),
    Binding("G,end", "end", "end", id="log.end", show=False, tooltip="Go to the end and follow."),
    Binding("g,home", "top", "top", id="log.top", show=False, tooltip="Go to the first line."),
    Binding("j,down", "move(1)", "down", id="log.down", show=False),
    Binding("k,up", "move(-1)", "up", id="log.up", show=False),
    Binding("pagedown", "page(1, 1)", "page down", id="log.page_down", show=False),
    Binding("pageup", "page(-1, 1)", "page up", id="log.page_up", show=False),
    Binding("ctrl+d", "page(1, 2)", "half a page down", id="log.half_down", show=False),
    Binding("ctrl+u", "page(-1, 2)", "half a page up", id="log.half_up", show=False),
    Binding("right", "shift(8)", "right", id="log.right", show=False),
    Binding("left", "shift(-8)", "left", id="log.left", show=False),
    Binding("escape", "clear", "clear", id="log.clear", show=False, tooltip="End selection, search, filter."),
)
