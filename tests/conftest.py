"""Fixtures of every suite. The servers are real and private: see tests/support."""

from __future__ import annotations

import os
import signal
import sys
import zlib
from collections.abc import Iterator

import pytest

pytest_plugins = [
    f"tests.support.{name}"
    for name in (
        "sshd",
        "oracle",
        "dovecot",
        "smtp",
        "desk",
        "shop",
        "ngas",
        "rabbitmq",
        "slurm",
        "postgres",
        "nodes",
        "slurmnodes",
    )
]

LONGEST_ID = 80
"""Characters of a parameter in a test's name."""

# the interpreters that tests start, some hundred, would each compile all of the console
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# in the background of a shell INT is ignored, and would be by every program that tests start
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A long text would be part of a test's name, which goes from process to process and stands in every report."""
    if isinstance(val, str | bytes) and len(val) > LONGEST_ID:
        data = val.encode("utf-8", "surrogatepass") if isinstance(val, str) else val
        return f"{argname}-{len(val)}-{zlib.crc32(data):08x}"
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """In CI a skip is a failure: a test that needs a server never passes silently without it."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):  # type: ignore[attr-defined]
        report.outcome = "failed"  # type: ignore[attr-defined]
    return report
