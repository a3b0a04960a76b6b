"""What a Serve deployment holds open between its constructor and its destructor.

Serve calls the two from different tasks, but a task group and most context managers must be left by the task that
entered them. One task enters, waits and leaves; it is the only one started here.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

T = TypeVar("T")

Opening = Callable[[AsyncExitStack, asyncio.TaskGroup], Awaitable[T]]


class Lifetime:
    """Contexts that stay entered and tasks that run until `close`."""

    def __init__(self) -> None:
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self, opening: Opening[T]) -> T:
        """Run `opening` inside an exit stack and a task group that outlive this call. Raises what it raises."""
        ready: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(opening, ready))
        await asyncio.wait((ready, self._task), return_when=asyncio.FIRST_COMPLETED)
        return await ready

    @property
    def is_open(self) -> bool:
        return self._task is not None and not self._task.done()

    def check(self) -> None:
        """Raise what ended the lifetime before its time."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()
            if not self._stop.is_set():
                raise RuntimeError("a lifetime ended without being closed")

    async def ended(self) -> None:
        """Wait until the lifetime is over, for whatever reason."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def close(self) -> None:
        """Cancel the tasks, leave the contexts in reverse order, and wait for both."""
        self._stop.set()
        await self.ended()

    async def _live(self, opening: Opening[T], ready: asyncio.Future[T]) -> None:
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.TaskGroup() as tasks:
                    try:
                        ready.set_result(await opening(stack, tasks))
                    except Exception as exc:
                        ready.set_exception(exc)
                        raise _Closed from exc
                    await self._stop.wait()
                    raise _Closed
            except* _Closed:
                self._stop.set()


class _Closed(Exception):
    """Leaves a task group so that it cancels its tasks."""
