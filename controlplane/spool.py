"""A bounded queue that one thread empties in batches, so that whoever fills it never waits for a disk."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

Item = TypeVar("Item")


class Spool(Generic[Item]):
    """`write` and, at the end, `close` are called in the spool's own thread, and only there."""

    def __init__(
        self,
        write: Callable[[Sequence[Item]], None],
        close: Callable[[], None],
        limit: int = 20_000,
        batch: int = 500,
        every_s: float = 0.1,
    ) -> None:
        self._write = write
        self._close = close
        self._limit = limit
        self._batch = batch
        self._every_s = every_s
        self._items: deque[Item] = deque()
        self._writing = False
        self._idle = threading.Condition()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self._failures = 0
        self.dropped = 0  # items that found the spool full or whose batch could not be written

    def start(self) -> None:
        self._thread.start()

    def put(self, item: Item) -> None:
        """Leave an item to be written; costs an append. A full spool drops and counts it."""
        if len(self._items) >= self._limit or self._stopping.is_set():
            self.dropped += 1
            return
        self._items.append(item)

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing is left to write; false if that took too long."""
        self._wake.set()
        with self._idle:
            return self._idle.wait_for(lambda: not self._items and not self._writing, timeout_s)

    def stop(self, timeout_s: float) -> bool:
        """Write what is left and end the thread; false if that took too long, and then it ends by itself."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            stopping = self._stopping.is_set()
            batch = self._take()
            if batch:
                self._write_or_count(batch)
            if not batch and stopping:
                break
            if len(batch) < self._batch and not stopping:
                self._wake.wait(self._every_s)
                self._wake.clear()
        self._close()

    def _take(self) -> Sequence[Item]:
        with self._idle:
            batch = [self._items.popleft() for _ in range(min(self._batch, len(self._items)))]
            self._writing = bool(batch)
            if not batch:
                self._idle.notify_all()
        return batch

    def _write_or_count(self, batch: Sequence[Item]) -> None:
        try:
            self._write(batch)
        except Exception:  # whatever the writer raises, the next batch may go through
            self.dropped += len(batch)
            self._failures += 1
            if self._failures & (self._failures - 1) == 0:  # the 1st, 2nd, 4th, ...: a full disk must not fill the log
                log.exception("%d items could not be written; %d are lost so far", len(batch), self.dropped)
        with self._idle:
            self._writing = False
            self._idle.notify_all()
