"""Ctrl-C and SIGTERM alike end a run once, so that cleaning up is never itself interrupted."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

T = TypeVar("T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def one_interrupt() -> Iterator["Interrupt"]:
    """Raise KeyboardInterrupt at the first signal and ignore all others until the block is left."""
    before = [signal.getsignal(number) for number in _SIGNALS]
    interrupt = Interrupt()
    interrupt.take()
    try:
        yield interrupt
    finally:
        for number, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(number, handler)


class Interrupt:
    """Whether a signal has come, and what it ends."""

    def __init__(self) -> None:
        self._came = False
        self._cancel: Callable[[], object] | None = None

    def take(self) -> None:
        """Listen to the signals; to be called again after Ray has started, which puts its own handler on SIGTERM."""
        for number in _SIGNALS:
            signal.signal(number, self._handle)

    def run(self, work: Coroutine[None, None, T]) -> T:
        """Like `asyncio.run`, but a signal cancels the work: raised in any callback, it would leave tasks behind."""
        try:
            done = asyncio.run(self._cancellable(work))
        except asyncio.CancelledError as exc:
            raise KeyboardInterrupt from exc
        if self._came:  # too late to cancel anything
            raise KeyboardInterrupt
        return done

    async def _cancellable(self, work: Coroutine[None, None, T]) -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        try:
            return await work
        finally:
            self._cancel = None

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._came:
            return
        self._came = True
        if self._cancel is None:
            raise KeyboardInterrupt
        self._cancel()
