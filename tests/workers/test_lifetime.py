"""Contexts and tasks are held open, their failure is told, and closing leaves both."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from kvplane.workers.lifetime import Lifetime


@contextlib.asynccontextmanager
async def noted(log: list[str]) -> AsyncIterator[str]:
    task = asyncio.current_task()
    log.append("entered")
    yield "value"
    assert asyncio.current_task() is task
    log.append("left")


async def test_what_was_opened_stays_open_until_closed() -> None:
    log: list[str] = []
    lifetime = Lifetime()

    async def opening(stack: contextlib.AsyncExitStack, tasks: asyncio.TaskGroup) -> str:
        return await stack.enter_async_context(noted(log))

    assert await lifetime.open(opening) == "value"
    lifetime.check()
    assert log == ["entered"]
    await lifetime.close()
    assert log == ["entered", "left"]


async def test_closing_cancels_the_tasks_before_the_contexts_are_left() -> None:
    log: list[str] = []
    lifetime = Lifetime()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            log.append("task ended")

    async def opening(stack: contextlib.AsyncExitStack, tasks: asyncio.TaskGroup) -> None:
        await stack.enter_async_context(noted(log))
        tasks.create_task(endless())

    await lifetime.open(opening)
    await asyncio.sleep(0)
    await lifetime.close()

    assert log == ["entered", "task ended", "left"]


async def test_an_opening_that_raises_is_raised_to_the_opener() -> None:
    async def opening(stack: contextlib.AsyncExitStack, tasks: asyncio.TaskGroup) -> None:
        raise ValueError("no model")

    lifetime = Lifetime()
    with pytest.raises(ValueError, match="no model"):
        await lifetime.open(opening)

    await lifetime.ended()
    assert not lifetime.is_open


async def test_a_task_that_dies_fails_the_check() -> None:
    dying = asyncio.Event()
    lifetime = Lifetime()

    async def dies() -> None:
        await dying.wait()
        raise RuntimeError("publisher ended")

    async def opening(stack: contextlib.AsyncExitStack, tasks: asyncio.TaskGroup) -> None:
        tasks.create_task(dies())

    await lifetime.open(opening)
    lifetime.check()
    dying.set()
    await lifetime.ended()

    with pytest.raises(ExceptionGroup):
        lifetime.check()
