"""The re-ingestion queue's items on a page: a list that is alive, and stays open while something is done to a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.timer import Timer
from textual.widgets import Static

from aogconsole.text import clean
from widgets.pages import ListPage, ListPane, Picked, Row, TextPage
from widgets.textpane import TextPane

HEADS = ("", "id", "kind", "uid", "state", "try", "since", "reason", "project")
TOLD = tuple(map(HEADS.index, ("id", "uid", "state", "project", "reason")))
"""What stands above the list, of the row under the cursor."""
STILL = 0.25
"""Seconds without a key after which what is typed is looked for in the database too."""


class ItemsPane(ListPane):
    """A pane that tells when its cursor is on another row."""

    def __init__(self, moved: Callable[[], None]) -> None:
        super().__init__(())
        self._moved = moved

    def action_move(self, by: int) -> None:
        """Move the cursor, and tell."""
        super().action_move(by)
        self._moved()


class ItemPage(TextPage[str]):
    """What became of one item; answers with the verb of a key."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("U", "answer('requeue')", "requeue", id="reingestion.requeue"),
        Binding("F", "answer('defer')", "defer", id="reingestion.defer"),
        Binding("X", "answer('drop')", "drop", id="reingestion.drop"),
    ]
    ABOUT = "What became of an item of the queue. U has it sent again, F puts it aside, X drops it."

    def action_answer(self, verb: str) -> None:
        """Close, and have it done."""
        self.answer(verb)


class ItemsPage(ListPage):
    """Items to be looked at and steered. The whole reason of the one under the cursor stands above them."""

    DEFAULT_CSS = """
    ItemsPage #box > #reason { height: 2; color: $foreground; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("U", "pick('requeue')", "requeue", id="reingestion.requeue"),
        Binding("F", "pick('defer')", "defer", id="reingestion.defer"),
        Binding("X", "pick('drop')", "drop", id="reingestion.drop"),
        Binding("I", "pick('run')", "have the loader look now", show=False, id="reingestion.run"),
        Binding("O", "pick('pause')", "pause re-ingestion, or let it go on", show=False, id="reingestion.pause"),
    ]
    ABOUT = (
        "The items of the queue: what needs a person on top, marked with !, then what runs, then the newest. "
        "/ finds older ones too."
    )

    def __init__(self, title: str, act: Callable[[Picked], None], look: Callable[[str], None]) -> None:
        """`act`: something is to be done; `look`: rows with these words are wanted, or all."""
        super().__init__(title, HEADS, [], spare=("project",))
        self._act = act
        self._look = look
        self._whole: dict[str, str] = {}
        self._stay = False
        self._timer: Timer | None = None

    def make_pane(self) -> TextPane:
        """The rows."""
        return ItemsPane(self._show_reason)

    def body(self) -> ComposeResult:
        """The reason above all."""
        yield Static(id="reason", markup=False)
        yield from super().body()

    def renew(self, rows: Sequence[Row], *, follow: bool = True) -> None:
        """Show other rows; after `stay` the cursor does."""
        self._whole = {row.id: " · ".join(filter(None, (row.cells[one] for one in TOLD))) for row in rows}
        super().renew(rows, follow=follow and not self._stay)
        self._stay = False
        self._show_reason()

    def stay(self) -> None:
        """Something has been done to an item: the next rows may show it elsewhere, and another where it was."""
        self._stay = True

    def _show_reason(self) -> None:
        self.query_one("#reason", Static).update(clean(self._whole.get(self.current, "")), layout=False)

    def offers(self, action: str) -> bool:
        """There is no room for the key that copies."""
        return action != "copy"

    def on_mount(self) -> None:
        """Now there is a place for rows."""
        self._look("")

    @property
    def words(self) -> str:
        """What is typed into the filter."""
        return self._search.value

    def search(self, words: str) -> None:
        """Keep the rows that have the words, and have others looked for."""
        super().search(words)
        self._show_reason()
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(STILL, lambda: self._look(words))

    def action_pick(self, verb: str) -> None:
        """Have it done; the page stays. What is no matter of a row needs none."""
        self._act(Picked(self.current, verb, self.words))
