"""aogremote, the staging host's side: one POSIX sh program, with a site's settings written into it."""

from __future__ import annotations

import re
import shlex
from importlib.resources import files

_PROCESSES = "# processes.sh is put in here\n"


def with_processes(text: str) -> str:
    """A shell program's text with the functions that tell a run's processes in the place that is marked for them."""
    return text.replace(_PROCESSES, files("aogconsole.staging").joinpath("processes.sh").read_text("utf-8"), 1)


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
    text = with_processes(files("aogconsole.staging").joinpath("aogremote.sh").read_text("utf-8"))
    defaults = {"operator": operator, "root": root, "slots": str(slots), "command": command, "web_root": web_root}
    return re.sub(
        rf"^({'|'.join(defaults)})=.*$",
        lambda found: f"{found[1]}={shlex.quote(defaults[found[1]])}",
        text,
        count=len(defaults),
        flags=re.MULTILINE,
    )
