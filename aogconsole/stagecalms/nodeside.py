"""The text that is sent over SSH to a cluster node for one verb, its words at the end of it. Pure.

The words are not in the command line: every account of a node can read that, and the token is as good as a key.
"""

from __future__ import annotations

import functools
import re
import shlex
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Literal

from aogconsole.errors import InvalidId
from aogconsole.staging.remote import with_shared

Verb = Literal["probe", "make", "begin", "state", "follow", "packed", "end", "remove"]

HAIL = "stagecalms 1"
"""The node's first line, above every answer. Noise of a login above it is not ours."""
HAILING = f"echo '{HAIL}'\n"
"""Sent first. The rest follows when the node has hailed: who is killed while it connects has asked for nothing."""
TOKEN_NAME = "STAGECALMS_TOKEN"  # noqa: S105  # a variable's name
"""The variable in the environment of a worker and all below it."""
INNER = ".stagecalms"
"""The folder in a working directory that is ours; see node.sh."""
TARS = f"{INNER}/tars"
"""Where the tars are, below the working directory."""
_FOLDER = re.compile("(/[0-9A-Za-z_.+@=,:-]+)+", re.ASCII)


def is_folder(path: PurePosixPath) -> bool:
    """Whether a path needs no quotes for any shell, nor for rsync; node.sh checks it again."""
    return bool(_FOLDER.fullmatch(str(path))) and "/." not in f"{path}/"


@functools.cache
def _program() -> str:
    here = files("aogconsole.stagecalms")
    worker = here.joinpath("worker.sh").read_text("utf-8")
    text = here.joinpath("node.sh").read_text("utf-8").replace("# worker.sh is put in here\n", worker, 1)
    return with_shared(text)


def render(verb: Verb, *words: str) -> str:
    """The program and its words; what they mean is told in node.sh. Raises InvalidId for one that no line can hold."""
    for word in words:
        if not word.isprintable():
            raise InvalidId(f"{word[:80]!r} cannot be a word of a command", "it has a sign that is not printable")
    return f"{_program()}\nmain {shlex.join([verb, *words])}\n"
