"""Replicas that write down how many requests their engines hold, in a file that outlives them."""

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

from ray import serve

from kvplane.controlplane.app import compose
from kvplane.controlplane.config import Settings
from kvplane.controlplane.ingress import Ingress
from kvplane.directory import DirectorySettings
from kvplane.workers import EngineSettings, Registration, Replica
from kvplane.workers.batching_engine import BatchingEngine

_EVERY_S = 0.005


class WatchedReplica(Replica):
    async def _open(
        self,
        settings: EngineSettings,
        directory: DirectorySettings,
        registration: Registration,
        stack: AsyncExitStack,
        tasks: asyncio.TaskGroup,
    ) -> None:
        await super()._open(settings, directory, registration, stack, tasks)
        assert isinstance(self._engine, BatchingEngine)
        tasks.create_task(_watch(self._engine, os.open(_file(settings.cache), os.O_WRONLY | os.O_APPEND | os.O_CREAT)))


async def _watch(engine: BatchingEngine, file: int) -> None:
    """Note each number that differs from the last; those that the batch has no place for are its queue."""
    scheduler, before = engine._scheduler, 0
    while True:
        held = len(scheduler._running) + len(scheduler._waiting)
        if held != before:
            os.write(file, f"{held}\n".encode())
            before = held
        await asyncio.sleep(_EVERY_S)


def build_watched(settings: Settings) -> serve.Application:
    """The application with replicas that are watched."""
    return compose(settings, Ingress, WatchedReplica)


def most_held(cache: Path) -> int:
    """The most requests that a replica's engine held at once."""
    return max(map(int, _file(cache).read_text().split()))


def _file(cache: Path) -> Path:
    return cache / "held"
