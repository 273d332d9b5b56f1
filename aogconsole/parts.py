"""The parts of the console that its first frame does not need: loaded beside the loop once that frame stands.

Who wants one earlier has it loaded at once. What they import (dialogs, pages, letters, the desk) is half of all the
console's code.
"""

from __future__ import annotations

import gc
from functools import cached_property
from importlib import import_module
from threading import Thread
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from aogconsole.app import Console
    from aogconsole.checks import Checks
    from aogconsole.deeds import Deeds
    from aogconsole.letterdesk import Letters
    from aogconsole.logs import Logs
    from aogconsole.lookups import Lookups
    from aogconsole.reingestiondesk import ReingestionDesk

MODULES = ("logs", "lookups", "deeds", "letterdesk", "checks", "site", "reingestiondesk", "reingestionwatch")


class Parts:
    """What the console can do, part by part."""

    @cached_property
    def deeds(self) -> Deeds:
        """The verbs on requests and runs, and the engine's pause."""
        from aogconsole.deeds import Deeds

        return Deeds(self._console)

    @cached_property
    def letters(self) -> Letters:
        """The letters' verbs."""
        from aogconsole.letterdesk import Letters

        return Letters(self._console)

    @cached_property
    def checks(self) -> Checks:
        """The archive by hand, and the paste box."""
        from aogconsole.checks import Checks

        return Checks(self._console)

    @cached_property
    def lookups(self) -> Lookups:
        """Pages."""
        from aogconsole.lookups import Lookups

        return Lookups(self._console)

    @cached_property
    def logs(self) -> Logs:
        """The runs' output."""
        from aogconsole.logs import Logs

        return Logs(self._console)

    @cached_property
    def reingestion(self) -> ReingestionDesk:
        """The verbs on re-ingestion, and its pages."""
        from aogconsole.reingestiondesk import ReingestionDesk

        return ReingestionDesk(self._console)

    @property
    def _console(self) -> Console:
        return cast("Console", self)

    def load_parts(self) -> None:
        """Load what has not been needed yet; not in the loop, which goes on meanwhile."""
        Thread(target=self._load, name="parts", daemon=True).start()

    def parts_loaded(self) -> None:
        """They are there. Called in the thread that has loaded them."""

    def _load(self) -> None:
        _load()
        self.parts_loaded()

    def close_parts(self) -> None:
        """Finish what was begun by those that were needed."""
        for part in ("deeds", "logs"):
            if part in vars(self):
                getattr(self, part).close()


def _load() -> None:
    for name in MODULES:
        import_module(f"aogconsole.{name}")
    gc.freeze()  # what start-up has made stays: to look through it took 66 ms each time
    gc.enable()
