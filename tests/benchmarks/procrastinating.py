"""procrastinate, a queue in PostgreSQL that others use, for comparison. It is no dependency: where it cannot be
imported it is left out. `pip install --target FOLDER procrastinate` and `PYTHONPATH=FOLDER` make it importable.
"""

from __future__ import annotations

import time
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tests.support.postgres import PASSWORD

THERE = find_spec("procrastinate") is not None
WORKERS = 10
"""Jobs that its worker runs side by side: more did not make it faster."""


async def rates(dsn: str, jobs: int, batch: int = 500) -> tuple[float, float]:
    """Jobs deferred a second in batches, and no-op jobs run a second by one worker; on an empty database."""
    procrastinate: Any = import_module("procrastinate")
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn, kwargs={"password": PASSWORD}))
    done = 0

    @app.task(name="nothing")  # type: ignore[untyped-decorator]
    async def nothing(**_: object) -> None:
        nonlocal done
        done += 1

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        begun = time.perf_counter()
        for start in range(0, jobs, batch):
            await nothing.batch_defer_async(
                *({"id": n, "attempt": 1, "kind": "execution_block", "uid": f"uid://A002/X1/X{n:x}"}
                  for n in range(start, min(start + batch, jobs)))
            )  # fmt: skip
        deferred = jobs / (time.perf_counter() - begun)
        begun = time.perf_counter()
        await app.run_worker_async(wait=False, concurrency=WORKERS, install_signal_handlers=False)
        ran = done / (time.perf_counter() - begun)
    assert done == jobs
    return deferred, ran
