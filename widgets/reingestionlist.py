"""The re-ingestion queue's items on a page: a list that is alive, and stays open while something is done to a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from textual.timer import Timer

from widgets.pages import ListPage, Picked

HEADS = ("", "id", "kind", "uid", "state", "try", "project", "since", "reason")
STILL = 0.25
"""Seconds without a key after which what is typed is looked for in the database too."""


class ItemsPage(ListPage):
    """Items to be looked at and steered; new rows come in below the cursor's feet."""

    ABOUT = (
        "The items of the queue: what needs a person on top, marked with !, then what runs, then the newest. "
        "/ finds older ones too."
    )

    def __init__(
        self, title: str, lines: Sequence[str], verbs: Mapping[str, tuple[str, str]],
        act: Callable[[Picked], None], look: Callable[[str], None],
    ) -> None:  # fmt: skip
        """`act`: something is to be done; `look`: rows with these words are wanted, or all."""
        super().__init__(title, HEADS, [], verbs, lines=lines)
        self._act = act
        self._look = look
        self._timer: Timer | None = None

    @property
    def words(self) -> str:
        """What is typed into the filter."""
        return self._search.value

    def search(self, words: str) -> None:
        """Keep the rows that have the words, and have others looked for."""
        super().search(words)
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(STILL, lambda: self._look(words))

    def action_pick(self, verb: str) -> None:
        """Have it done; the page stays. What is no matter of a row needs none."""
        self._act(Picked(self.current, verb, self.words))
