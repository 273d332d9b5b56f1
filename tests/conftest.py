"""Fixtures of every suite. The servers are real and private: see tests/support."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

pytest_plugins = [
    f"tests.support.{name}" for name in ("sshd", "oracle", "dovecot", "smtp", "desk", "shop", "rabbitmq", "slurm")
]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """In CI a skip is a failure: a test that needs a server never passes silently without it."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):  # type: ignore[attr-defined]
        report.outcome = "failed"  # type: ignore[attr-defined]
    return report
