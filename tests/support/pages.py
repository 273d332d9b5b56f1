"""The parts of the documentation that are made from the code: between `<!-- NAME -->` and `<!-- end NAME -->`."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import click
from textual.binding import Binding
from textual.keys import format_key

import widgets
from aogconsole import capo, config
from aogconsole.actions import ACTIONS, shown
from aogconsole.cli.root import cli
from aogconsole.lookups import GROUPS
from aogconsole.reingestion import item
from aogconsole.requests.request import TRANSITIONS, State, diagram

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "aogconsole" / "docs"


def verbs() -> Iterator[tuple[str, click.Command]]:
    """Every command by its words, those of groups too: `config check`."""
    for name in cli.list_commands(click.Context(cli)):
        command = cli.get_command(click.Context(cli), name)
        assert command is not None, name
        if isinstance(command, click.Group):
            if command.invoke_without_command:
                yield name, command
            yield from ((f"{name} {sub}", one) for sub, one in command.commands.items())
        else:
            yield name, command


def json_verbs() -> list[str]:
    """The commands that print a JSON document."""
    return [name for name, command in verbs() if any("--json" in one.opts for one in command.params)]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def usage(name: str, command: click.Command) -> str:
    """How a command is written, its required options spelt out."""
    words = [name]
    for one in command.params:
        if isinstance(one, click.Argument):
            shown = one.make_metavar(click.Context(command))
            words.append(shown)
        elif one.required:
            words.append(f"{one.opts[0]} {_metavar(one, command)}")
    return " ".join(words)


def _metavar(option: click.Parameter, command: click.Command) -> str:
    if getattr(option, "is_flag", False):
        return ""
    return "N" if isinstance(option.type, click.IntRange) else option.make_metavar(click.Context(command))


def _commands_short() -> str:
    return table(
        ("command", "what it does"), [(f"`{usage(name, one)}`", one.help or "") for name, one in verbs()]
    )  # fmt: skip


def _commands() -> str:
    parts = []
    for name, command in verbs():
        lines = [f"### {name}", "", f"    aogconsole {usage(name, command)}", "", command.help or ""]
        options = [one for one in command.params if isinstance(one, click.Option)]
        if options:
            lines += ["", *(_option(one, command, name) for one in options)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _option(option: click.Option, command: click.Command, verb: str) -> str:
    flags = f"{', '.join(option.opts)} {_metavar(option, command)}".strip()
    needed = " Required." if option.required else ""
    default = f" Default {option.default}." if option.show_default else ""
    told = (option.help or "").removesuffix(".")
    example = f" [Example](json/{file_of(verb)})." if "--json" in option.opts else ""
    return f"* `{flags}`: {told[:1].lower() + told[1:]}.{needed}{default}{example}"


def file_of(verb: str) -> str:
    """The file of a command's example document."""
    return f"{verb.replace(' --', '-').replace(' ', '-')}.json"


def _keys(*columns: str) -> str:
    parts, section = [], ""
    rows: list[Sequence[str]] = []
    for key in [*config.known_keys(), None]:
        if key is None or key.section != section:
            if rows:
                parts.append(f"### [{section}]\n\n" + table(columns, rows))
            section, rows = (key.section if key else ""), []
        if key:
            cells = {"key": f"`{key.name}`", "kind": _kind(key), "default": f"`{config.to_toml(key.default)}`",
                     "what it is": key.doc, "environment": f"`{variable(key)}`"}  # fmt: skip
            rows.append([cells[column] for column in columns])
    return "\n\n".join(parts)


def variable(key: config.Key) -> str:
    """The environment variable of a setting."""
    return config.ENVIRONMENT + str(key).upper().replace(".", "__")


def _kind(key: config.Key) -> str:
    if get_origin(key.type) is tuple:
        return "list of texts"
    if get_args(key.type):
        return " or ".join(f'`"{one}"`' for one in get_args(key.type))
    if key.secret:
        return "reference to a secret"
    kind = "path" if key.path else {str: "text", int: "whole number", float: "number", bool: "true or false"}[key.type]
    bounds = [f"at least {key.least:g}" if key.least is not None else "", f"at most {key.most:g}" if key.most else ""]
    return ", ".join([kind, *filter(None, bounds)])


def _keys_short() -> str:
    used = [key for key in config.known_keys() if key.section in ("journal", "archive", "staging", "mail", "policy")]
    return table(("key", "default", "what it is"), [
        (f"`{key}`", f"`{config.to_toml(key.default)}`" if key.default not in ("", ()) else "", key.doc) for key in used
    ])  # fmt: skip


def _states() -> str:
    return table(("state", "meaning"), [(f"`{state}`", meaning) for state, meaning in meanings(State).items()])


def meanings(enumeration: type[Any]) -> dict[str, str]:
    """The docstring below each member of an enumeration."""
    (found,) = ast.parse(inspect.getsource(enumeration)).body
    assert isinstance(found, ast.ClassDef)
    told = {}
    for member, text in zip(found.body, found.body[1:], strict=False):
        if isinstance(member, ast.Assign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(member.targets[0], ast.Name)
            told[str(enumeration[member.targets[0].id].value)] = str(text.value.value)
    return told


def _arrows() -> str:
    def names(states: Iterable[State]) -> str:
        return ", ".join(sorted(states))

    return table(("verb", "who", "from", "to", "meaning"), [
        (f"`{one.verb}`", "operator" if one.operator else "engine", names(one.origins), names(one.target), one.meaning)
        for one in TRANSITIONS.values()
    ])  # fmt: skip


def _item_states() -> str:
    return table(("state", "meaning"), [(f"`{state}`", item.MEANING[state]) for state in item.State])


ARROWS = {
    (item.State.DEFERRED, item.State.WAITING): "ready, or REQUEUE",
    (item.State.WAITING, item.State.QUEUED): "sent",
    (item.State.FAILED, item.State.QUEUED): "sent again",
    (item.State.QUEUED, item.State.LAUNCHING): "claimed",
    (item.State.QUEUED, item.State.WAITING): "another of its project runs",
    (item.State.LAUNCHING, item.State.WAITING): "never launched",
    (item.State.LAUNCHING, item.State.RUNNING): "launched",
    (item.State.LAUNCHING, item.State.LAUNCH_UNKNOWN): "not proved",
    (item.State.LAUNCH_UNKNOWN, item.State.RUNNING): "it runs",
}
"""What leads from state to state, where the state it leads to does not say it."""
LEADS = {
    item.State.DEFERRED: "DEFER", item.State.DROPPED: "DROP", item.State.WAITING: "REQUEUE",
    item.State.DONE: "complete", item.State.FAILED: "failed", item.State.DEAD: "failed the last time",
    item.State.DO_NOT_CALIBRATE: "custom scripts",
}  # fmt: skip


def _item_diagram() -> str:
    """Every change of an item's state; those that lead back to the same are left out."""
    lines = ["stateDiagram-v2", "    [*] --> waiting: found, or ADD", "    [*] --> deferred: found, not ready",
             "    [*] --> do_not_calibrate: found, custom scripts"]  # fmt: skip
    for before, then in item.TRANSITIONS.items():
        for after in (state for state in item.State if state in then and state is not before):
            lines.append(f"    {before} --> {after}: {ARROWS.get((before, after)) or LEADS[after]}")
    return "```mermaid\n" + "\n".join([*lines, "    done --> [*]", "    dropped --> [*]"]) + "\n```"


def _capo() -> str:
    rows = [(f"`{key}`", f"`{setting}`") for setting, key in capo.NUMBERS.items()]
    rows += [(f"`{key}`", f"`{setting}`") for setting, keys in capo.ADDRESSES.items() for key in keys]
    return table(("CAPO key", "setting"), rows)


def _examples() -> str:
    forms = sorted([*json_verbs(), "history --verify"], key=lambda form: form.split()[0] == "config")
    return "\n".join(f"* `{form} --json`: [{file_of(form)}](json/{file_of(form)})" for form in forms)


def _actions() -> str:
    return "\n\n".join(
        f"### {head}\n\n" + table(("key", "id", "what it does"), [
            (f"`{shown(one.key)}`", f"`{one.id}`", one.meaning) for one in ACTIONS if one.group == group
        ])
        for group, head in GROUPS.items()
    )  # fmt: skip


PARTS = {
    "RequestList": "The requests", "Entitlement": "The entitlement panel", "LogPane": "A log pane",
    "LogPrompt": "Typing a search or a filter in a log pane", "Dialog": "Every dialog and page",
    "Confirm": "A question: yes or no", "CleanInput": "A line to type in", "Choose": "A choice",
    "FieldsForm": "A form", "AreaDialog": "A text to write or paste", "Page": "Every page",
    "TextPane": "A text on a page", "TextPage": "A page with a text", "ListPage": "A page with a list",
    "ListPane": "The rows of a list", "LetterScreen": "A letter", "HelpScreen": "The help",
    "ItemsPage": "The items of the re-ingestion", "ItemPage": "An item of the re-ingestion",
}  # fmt: skip
"""The widgets with keys of their own, in the order of the page."""


def keyed_widgets() -> dict[str, list[Binding]]:
    """Every class of the package `widgets` that binds keys, with those it binds itself."""
    found = {}
    for module in pkgutil.iter_modules(widgets.__path__):
        for name, one in vars(importlib.import_module(f"widgets.{module.name}")).items():
            if isinstance(one, type) and one.__module__ == f"widgets.{module.name}" and one.__dict__.get("BINDINGS"):
                found[name] = [binding for binding in one.__dict__["BINDINGS"] if isinstance(binding, Binding)]
    return found


def _parts() -> str:
    """The keys of each widget; those without an id are further keys of one that has, or digits."""
    keyed = keyed_widgets()
    return "\n\n".join(
        f"### {head}\n\n"
        + table(("key", "what it does"), [(_shown(one), _sentence(one)) for one in keyed[name] if one.id])
        for name, head in PARTS.items() if any(one.id for one in keyed[name])
    )  # fmt: skip


def _shown(binding: Binding) -> str:
    named = ({"escape": "escape", "enter": "enter"}.get(key, format_key(key)) for key in binding.key.split(","))
    return " ".join(f"`{key}`" for key in named)


def _sentence(binding: Binding) -> str:
    told = (binding.tooltip or binding.description).removesuffix(".")
    return f"{told[:1].upper()}{told[1:]}."


MADE: dict[tuple[Path, str], Callable[[], str]] = {
    (ROOT / "README.md", "commands"): _commands_short,
    (ROOT / "README.md", "configuration"): _keys_short,
    (DOCS / "commands.md", "commands"): _commands,
    (DOCS / "configuration.md", "keys"): lambda: _keys("key", "kind", "default", "what it is", "environment"),
    (DOCS / "states.md", "diagram"): lambda: f"```mermaid\n{diagram()}```",
    (DOCS / "states.md", "states"): _states,
    (DOCS / "states.md", "arrows"): _arrows,
    (DOCS / "json.md", "examples"): _examples,
    (DOCS / "reingestion.md", "states"): _item_states,
    (DOCS / "reingestion.md", "diagram"): _item_diagram,
    (DOCS / "reingestion.md", "capo"): _capo,
    (DOCS / "console.md", "actions"): _actions,
    (DOCS / "console.md", "parts"): _parts,
}
"""File and name of each part, and what makes it."""


def part(file: Path, name: str) -> str:
    """A part as it stands in the file."""
    return _cut(file.read_text(encoding="utf-8"), name)[1].rstrip("\n")


def put(file: Path, name: str, made: str) -> None:
    """Write a part anew."""
    before, _, after = _cut(file.read_text(encoding="utf-8"), name)
    file.write_text(f"{before}{made}\n{after}", encoding="utf-8")


def _cut(text: str, name: str) -> tuple[str, str, str]:
    begin, end = f"<!-- {name}: made from the code -->\n", f"<!-- end of {name} -->"
    before, found, rest = text.partition(begin)
    inside, closed, after = rest.partition(end)
    assert found and closed, f"no part {name}"  # noqa: PT018
    return before + begin, inside, end + after
