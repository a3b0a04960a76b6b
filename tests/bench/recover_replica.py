"""A replica killed on a real Ray, under load: no request fails, and none is sent to it from then on."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

from ray import serve

from kvplane.controlplane.app import APP
from kvplane.controlplane.config import Settings
from kvplane.controlplane.decisions import DecisionRow, Decisions
from kvplane.controlplane.interrupt import one_interrupt
from kvplane.controlplane.local import Serving, free_port, machine

from .bodies import bodies
from .client import Target, connected
from .errors import BenchError
from .load import ready
from .recover_rows import RecoverRow

KILLED = "killed_replica"

_REPLICAS = 3
_BODY_BYTES = 4 << 10
_CONCURRENCY = 16
_BEFORE_S, _AFTER_S = 3.0, 8.0
_SETTLED_S = 4.0  # from then on its replacement may serve too, and the killed one must not be chosen


def kill_replica() -> RecoverRow:
    """The seconds last from the kill to the last decision for the killed replica."""
    with (
        redirect_stdout(sys.stderr),  # Ray tells of the worker's death there
        one_interrupt() as interrupt,
        tempfile.TemporaryDirectory(prefix="kvplane-bench-") as state,
        machine(free_port(0), cpus=_REPLICAS) as here,
    ):
        interrupt.take()
        engine = {"engine": "simulated", "prefill_us_per_token": 20, "decode_ms": 5, "blocks": 1 << 14}
        replicas = {"count": _REPLICAS, "health_period_s": 1}
        settings = Settings.load(None, engine=engine, replicas=replicas, state=Path(state))
        with here.serving(settings) as serving:
            statuses, victim, killed_ns = interrupt.run(_struck(_target(here.port, serving), settings.name))
            rows = Decisions(settings.decisions_file).find(last=1_000_000)
    return _row(statuses, [row for row in rows if row.at_ns > killed_ns], victim, killed_ns)


async def _struck(target: Target, model: str) -> tuple[Counter[int], str, int]:
    """How often which status came, who was killed, and when, by `time.time_ns`."""
    asked = bodies(model, _BODY_BYTES, seed=1)
    await ready(target, next(asked))
    statuses = Counter[int]()
    ends_s = time.monotonic() + _BEFORE_S + _AFTER_S
    async with asyncio.TaskGroup() as tasks:
        for _ in range(_CONCURRENCY):
            tasks.create_task(_ask_until(ends_s, target, asked, statuses))
        await asyncio.sleep(_BEFORE_S)
        handle = serve.get_deployment_handle("replicas", APP)
        found = await asyncio.to_thread(handle.broadcast("status").results, timeout_s=20)
        victim = max(found, key=lambda status: status.blocks_held)
        killed_ns = time.time_ns()
        os.kill(victim.pid, signal.SIGKILL)
    return statuses, victim.replica, killed_ns


async def _ask_until(ends_s: float, target: Target, asked: Iterator[bytes], statuses: "Counter[int]") -> None:
    """Ask on a connection of its own each time: one that breaks costs one request. Status 0: no answer."""
    while time.monotonic() < ends_s:
        try:
            async with connected(target) as connection:
                status, _ = await connection.post(next(asked))
        except BenchError:
            status = 0
        statuses[status] += 1


def _row(statuses: "Counter[int]", later: list[DecisionRow], victim: str, killed_ns: int) -> RecoverRow:
    sent_s = [(row.at_ns - killed_ns) / 1e9 for row in later if victim in (row.chosen, row.served_by)]
    seconds = max(sent_s, default=0.0)
    failed = statuses.total() - statuses[200]
    return RecoverRow(KILLED, round(seconds, 2), seconds < _SETTLED_S, failed, 0, statuses.total())


def _target(port: int, serving: Serving) -> Target:
    return Target(APP, port, "/v1/chat/completions", serving.keys["acme"])
