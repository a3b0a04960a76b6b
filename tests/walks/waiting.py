"""Bounded waits on what arrives a moment after an answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

from kvplane.controlplane.decisions import DecisionRow, Decisions

T = TypeVar("T")
_PATIENCE_S = 60


def rows_once(store: Path, wanted: Callable[[list[DecisionRow]], bool]) -> list[DecisionRow]:
    """All decisions, as soon as they are as wanted."""
    deadline = time.monotonic() + _PATIENCE_S
    while not wanted(rows := Decisions(store).find(last=10_000)):
        assert time.monotonic() < deadline, f"{len(rows)} decisions, {sum(row.finish is None for row in rows)} open"
        time.sleep(0.05)
    return rows


def all_ended(count: int) -> Callable[[list[DecisionRow]], bool]:
    """At least so many decisions, and the outcome of every one."""
    return lambda rows: len(rows) >= count and all(row.finish for row in rows)


def wait_until(condition: Callable[[], bool]) -> None:
    """Ask again and again, for a bounded time."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


async def at_most(width: int, calls: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Await every call, so many at a time."""
    gate = asyncio.Semaphore(width)

    async def one(call: Callable[[], Awaitable[T]]) -> T:
        async with gate:
            return await call()

    return await asyncio.gather(*(one(call) for call in calls))
