"""The command in this process: what a verb prints and its exit code, without the start of an interpreter each time."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from aogconsole.cli.root import main


@dataclass(frozen=True)
class Done:
    """How a verb ended."""

    code: int
    out: bytes
    err: bytes

    @property
    def json(self) -> Any:
        """Its document."""
        return json.loads(self.out)


def call(config: Path, *words: str, stdin: bytes = b"") -> Done:
    """Run a verb to its end."""
    streams = [io.TextIOWrapper(io.BytesIO(given), encoding="utf-8") for given in (stdin, b"", b"")]
    with (
        mock.patch.object(sys, "argv", ["aogconsole", "--config", str(config), *words]),
        mock.patch.object(sys, "stdin", streams[0]),
        mock.patch.object(sys, "stdout", streams[1]),
        mock.patch.object(sys, "stderr", streams[2]),
    ):
        code: Any = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        for stream in streams[1:]:
            stream.flush()
    out, err = (stream.detach().getvalue() for stream in streams[1:])
    return Done(code or 0, out, err)


def in_terminal(argv: list[str], environment: dict[str, str]) -> tuple[int, bytes]:
    """Run a program with a terminal of its own as standard input, output and error: exit code and every byte of it."""
    import os
    import pty
    import subprocess

    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, "TERM": "xterm"}, start_new_session=True
    )
    os.close(theirs)
    seen = bytearray()
    try:
        while piece := os.read(ours, 65536):
            seen += piece
    except OSError:  # Linux: the last one has closed its side
        pass
    finally:
        os.close(ours)
    return program.wait(60), bytes(seen)
