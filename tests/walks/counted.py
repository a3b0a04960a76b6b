"""Replicas that write down every token that their engines give, in a file that outlives them."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

from ray import serve

from kvplane.controlplane.app import compose
from kvplane.controlplane.config import Settings
from kvplane.controlplane.ingress import Ingress
from kvplane.directory import DirectorySettings
from kvplane.workers import Delta, EngineSettings, Registration, Replica, Ticket
from kvplane.workers.engine import EngineRequest


class CountedReplica(Replica):
    async def _open(
        self,
        settings: EngineSettings,
        directory: DirectorySettings,
        registration: Registration,
        stack: AsyncExitStack,
        tasks: asyncio.TaskGroup,
    ) -> None:
        await super()._open(settings, directory, registration, stack, tasks)
        serve_ticket, generate = self._serving.generate, self._engine.generate
        file = os.open(_file(settings.cache), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        attempts: dict[str, int] = {}

        def noted(ticket: Ticket, request: EngineRequest) -> AsyncGenerator[Delta, None]:
            attempts[request.id] = ticket.attempt
            return serve_ticket(ticket, request)

        async def counted(request: EngineRequest) -> AsyncGenerator[Delta, None]:
            async with aclosing(generate(request)) as deltas:
                async for delta in deltas:
                    os.write(file, f"{request.id} {attempts[request.id]} {len(delta.token_ids)}\n".encode())
                    yield delta

        self._serving.generate = noted  # type: ignore[method-assign]
        self._engine.generate = counted  # type: ignore[method-assign]


def build_counted(settings: Settings) -> serve.Application:
    """The application with replicas that count."""
    return compose(settings, Ingress, CountedReplica)


def generated(cache: Path) -> Counter[tuple[str, int]]:
    """Tokens of each attempt, by its decision and number."""
    counts = Counter[tuple[str, int]]()
    for line in _file(cache).read_text().splitlines():
        decision, attempt, tokens = line.split()
        counts[decision, int(attempt)] += int(tokens)
    return counts


def _file(cache: Path) -> Path:
    return cache / "generated"
