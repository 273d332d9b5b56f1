"""aogremote, the staging host's side: one POSIX sh program, with a site's settings written into it."""

from __future__ import annotations

import re
import shlex
from importlib.resources import files

SHARED = ("words.sh", "processes.sh")
"""What the programs of the staging host and of a node have in common: words, and a run's processes."""


def with_shared(text: str) -> str:
    """A shell program's text with the shared functions in the places that are marked for them."""
    for name in SHARED:
        part = files("aogconsole.staging").joinpath(name).read_text("utf-8")
        text = text.replace(f"# {name} is put in here\n", part, 1)
    return text


def render_aogremote(
    operator: str = "",
    root: str = ".aogconsole",
    slots: int = 2,
    command: str = "stagecalms.sh",
    web_root: str = "",
) -> str:
    """The program's text with these defaults; its own options of the same names come before them.

    `root`: folder of the runs, below the account's home when relative. `command`: a bare name is looked for in the
    login's PATH and ~/bin, a relative path is below the home. `web_root`: folder of the staged directories.
    """
    text = with_shared(files("aogconsole.staging").joinpath("aogremote.sh").read_text("utf-8"))
    defaults = {"operator": operator, "root": root, "slots": str(slots), "command": command, "web_root": web_root}
    return re.sub(
        rf"^({'|'.join(defaults)})=.*$",
        lambda found: f"{found[1]}={shlex.quote(defaults[found[1]])}",
        text,
        count=len(defaults),
        flags=re.MULTILINE,
    )
