"""Closed-loop load: so many connections, each asking again as soon as it is answered."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack

from .client import Connection, Target, connected
from .errors import BenchError
from .rows import Round

_READY_S = 60.0
_SETTLED_S = 2.0
_RETRY_S = 0.05


async def ready(target: Target, body: bytes, settled_s: float = _SETTLED_S) -> None:
    """Wait until the target has answered well for a while.

    Serve returns before its proxies know every route, and HAProxy drops connections when it learns one. Raises
    `BenchError` when that takes too long.
    """
    deadline, well_since = time.monotonic() + _READY_S, None
    while True:
        problem = await _problem(target, body)
        at = time.monotonic()
        well_since = None if problem else well_since or at
        if well_since is not None and at >= well_since + settled_s:
            return
        if at > deadline:
            raise BenchError(f"{target.name} is not ready after {_READY_S:.0f} s: {problem}")
        await asyncio.sleep(_RETRY_S)


async def load(target: Target, bodies: Iterator[bytes], concurrency: int, seconds: float) -> Round:
    """Ask for so long; whoever has asked by then is waited for. Raises `BenchError` unless every answer is a 200."""
    latencies_us: list[float] = []
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connected(target)) for _ in range(concurrency)]
        began = time.perf_counter()
        try:
            async with asyncio.TaskGroup() as group:
                for connection in connections:
                    group.create_task(_ask_until(began + seconds, connection, bodies, latencies_us))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures  # the others most likely say the same
        took_s = time.perf_counter() - began
    return Round(latencies_us, took_s)


async def _ask_until(
    deadline: float, connection: Connection, bodies: Iterator[bytes], latencies_us: list[float]
) -> None:
    while time.perf_counter() < deadline:
        body = next(bodies)
        asked = time.perf_counter()
        status, answer = await connection.post(body)
        latencies_us.append((time.perf_counter() - asked) * 1e6)
        if status != 200:
            raise BenchError(f"{connection.target.name} answered {status}: {answer[:200]!r}")


async def _problem(target: Target, body: bytes) -> str | None:
    """What keeps one request from being answered well."""
    try:
        async with connected(target) as connection:
            status, answer = await connection.post(body)
    except BenchError as exc:
        return str(exc)
    return None if status == 200 else f"{status} {answer[:200]!r}"
