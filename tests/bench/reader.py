"""A router's half of the directory in a process of its own: a mirror that reads real pages into its table."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

from kvplane.directory import (
    Changes,
    DirectorySettings,
    HolderId,
    Holdings,
    Keyring,
    Mirror,
    Served,
    open_pages,
)

from .child import Child, child
from .errors import BenchError
from .reading import (
    Begin,
    Freeze,
    Reach,
    Reached,
    Request,
    TellArrivals,
    TellDigests,
    TellUsage,
    TellWatched,
    Watch,
)
from .watcher import Watcher

KEYRING = Keyring(b"kvplane bench".ljust(32))
SETTINGS = DirectorySettings(lease_s=600)

_LOOK_S = 0.005


@dataclass(frozen=True, slots=True)
class Mirrored:
    """Which pages to mirror, and what to do beside. `clocked`: whether pages grow old; `stamped`: see `Arrivals`."""

    url: str
    holders: Sequence[HolderId]
    watched: Sequence[Watch] = ()
    clocked: bool = True
    stamped: bool = False


@contextmanager
def mirroring(reading: Mirrored) -> Iterator[tuple[Child, float]]:
    """A mirror in a process of its own, and when it began, by the clock that all processes of a host share."""
    with child(reader, reading) as mirror:
        began: Reached = mirror.ask(Begin())
        yield mirror, began.at_s


def reader(connection: Connection, reading: Mirrored) -> None:
    """Mirror pages and answer requests until the connection ends."""
    if connection.recv() != Begin():
        raise BenchError("a reader is told to begin first")
    connection.send(_usage())
    logging.disable(logging.WARNING)  # faults are struck on purpose
    asyncio.run(_Reader(connection, reading).run())


class _Reader:
    def __init__(self, connection: Connection, reading: Mirrored) -> None:
        self._connection = connection
        self._reading = reading
        self._holdings = Arrivals() if reading.stamped else Holdings()
        self._watcher = Watcher(self._holdings, reading.watched)

    async def run(self) -> None:
        clock: Callable[[], float] = time.monotonic if self._reading.clocked else lambda: 0.0
        async with open_pages(self._reading.url, SETTINGS) as pages:
            mirror = Mirror(pages, self._holdings, KEYRING.mac_key, _ignore, clock)
            async with asyncio.TaskGroup() as tasks:
                follow, watch = mirror.run(lambda: self._reading.holders), self._watcher.run()
                running = [tasks.create_task(follow), tasks.create_task(watch)]
                await self._serve(mirror)
                for task in running:
                    task.cancel()

    async def _serve(self, mirror: Mirror) -> None:
        while True:
            try:
                request: Request = await asyncio.to_thread(self._connection.recv)
                if isinstance(request, Freeze):
                    self._connection.send(None)
                    request = self._connection.recv()  # the whole loop waits: that is what was asked for
            except EOFError:
                return
            try:
                self._connection.send(await self._answer(request, mirror))
            except BenchError as exc:
                self._connection.send(exc)

    async def _answer(self, request: Request, mirror: Mirror) -> object:
        match request:
            case Reach():
                return await self._reach(request, mirror)
            case TellUsage():
                return _usage()
            case TellDigests():
                holders = self._reading.holders
                digests = {holder: self._holdings.digest(holder) for holder in holders}
                return digests | {holder: self._holdings.recount(holder) for holder in holders[: request.recounts]}
            case TellArrivals():
                return self._holdings.arrivals if isinstance(self._holdings, Arrivals) else []
            case TellWatched():
                return self._watcher.take()
            case Begin() | Freeze():
                raise BenchError(f"{request} comes too late")

    async def _reach(self, request: Reach, mirror: Mirror) -> Reached:
        began, waiting = time.process_time(), dict(request.places)
        deadline = time.monotonic() + request.within_s
        while waiting:
            for holder in list(waiting):
                seen = mirror.seen(holder)
                if seen is None or (seen.epoch, seen.seq) < waiting[holder]:
                    break
                del waiting[holder]
            else:
                break
            if time.monotonic() > deadline:
                raise BenchError(f"{len(waiting)} pages were not read within {request.within_s:.0f} s")
            await asyncio.sleep(_LOOK_S)
        return Reached(time.process_time() - began, time.monotonic())


def _usage() -> Reached:
    return Reached(time.process_time(), time.monotonic())


class Arrivals(Holdings):
    """Notes when which names could be found, by the clock that all processes of a host share."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: list[tuple[float, bytes]] = []

    def apply(self, holder: HolderId, changes: Iterable[Changes]) -> None:
        changes = tuple(changes)
        super().apply(holder, changes)
        at_s = time.monotonic()
        self.arrivals += [(at_s, change.names) for change in changes if change.level]


def _ignore(holder: HolderId, served: Served) -> None:
    """These replicas serve nothing."""
