"""The command palette: every verb of the console, those that are not possible now with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.screen import Screen

from aogconsole.text import clean


class Command(NamedTuple):
    """A line of the palette."""

    title: str
    help: str
    key: str
    """As the operator has it; may be empty."""
    run: Callable[[], Any]
    why_not: str = ""
    """Why it is not possible now."""


class Commanding(Protocol):
    """What the palette needs of the app."""

    def commands_for_palette(self, screen: Screen[Any]) -> Iterable[Command]:
        """Every command of the screen that the palette was opened on, as it is at the moment."""


class Commands(Provider):
    """Feeds the palette from `App.commands_for_palette`; those that are possible come first."""

    def _commands(self) -> list[Command]:
        commands = [Command(*command) for command in cast(Commanding, self.app).commands_for_palette(self.screen)]
        return sorted(commands, key=lambda command: bool(command.why_not))

    async def discover(self) -> Hits:
        """Before anything is typed: all."""
        for command in self._commands():
            yield DiscoveryHit(self._shown(command), partial(self._run, command), clean(command.title), _help(command))

    async def search(self, query: str) -> Hits:
        """Those whose title or help has the letters of the query."""
        matcher = self.matcher(query)
        for command in self._commands():
            score = max(matcher.match(command.title), matcher.match(command.help) / 2)
            if score > 0:
                score = score / 2 if command.why_not else score
                run = partial(self._run, command)
                yield Hit(score, self._shown(command, matcher.highlight), run, clean(command.title), _help(command))

    def _shown(self, command: Command, highlight: Callable[[str], Content] = Content) -> Content:
        title = highlight(clean(command.title))
        if command.why_not:
            title = title.stylize("dim")
        return title.append(Content.styled(f"  {clean(command.key)}", "bold")) if command.key else title

    def _run(self, command: Command) -> Any:
        if not command.why_not:
            return command.run()
        return self.app.notify(clean(command.why_not), title=clean(command.title), severity="warning", markup=False)


def _help(command: Command) -> str:
    # the palette reads its help as markup: no bracket of ours or of others may begin any
    text = f"not now: {command.why_not}" if command.why_not else command.help
    return clean(text).replace("[", r"\[")
