"""The replica half: verifies the ticket, generates under its salt, and keeps the replica's page.

Started with OPENBLAS_NUM_THREADS=1 in its environment, so that replicas on one host do not fight for cores.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, aclosing

import msgspec
import ray
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve.handle import DeploymentHandle

from ..directory import (
    Account,
    Closure,
    DirectorySettings,
    HolderId,
    Served,
    domain_key,
    holder_id,
    open_pages,
)
from ..directory.wire import Finish
from .engine import Capacity, Delta, Engine, EngineDead, EngineLoad, EngineRequest, Sampling
from .engines import EngineSettings, open_engine
from .ledger import Usage
from .lifetime import Lifetime
from .pace import Pace
from .publisher import Identity, Publisher
from .ticket import Declined, Ticket, verify
from .usage_writer import open_usage

_ACCOUNT_S = 3.0


class ReplicaSettings(BaseModel):
    """How many replicas, and what each may take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(default=3, ge=1, description="replicas; the lower bound where max_count is higher")
    max_count: int | None = Field(default=None, ge=1, description="upper bound of autoscaling; none: fixed")
    target_ongoing_requests: float = Field(default=4, gt=0, description="requests a replica that autoscaling aims at")
    max_ongoing_requests: int = Field(default=64, ge=1, description="requests a replica accepts before it is full")
    num_cpus: float = Field(default=0.25, ge=0, description="CPUs Ray reserves for a replica")
    drain_s: float = Field(default=60, ge=0, description="how long a leaving replica may finish its requests")
    health_period_s: float = Field(default=2, gt=0, description="between health checks")


class Registration(msgspec.Struct, frozen=True):
    """What the registrar gives a replica that starts. Secrets, so it is never printed."""

    epoch: int
    mac_key: bytes
    ticket_key: bytes
    directory_url: str
    accounts_url: str

    def __repr__(self) -> str:
        return f"Registration(epoch={self.epoch})"


class ReplicaStatus(msgspec.Struct, frozen=True):
    """One line of `kvplane status`."""

    replica: str
    pid: int
    engine: str  # "up", or how it died
    running_sequences: int
    waiting_prefill_tokens: int
    blocks_held: int
    blocks: int


class Replica:
    """One copy of the model on Serve."""

    async def __init__(  # type: ignore[misc]  # Serve awaits constructors
        self,
        model: str,
        engine: EngineSettings,
        directory: DirectorySettings,
        pace: Pace,
        registrar: DeploymentHandle,
    ) -> None:
        self._model = model
        self._pace = pace
        self._lifetime = Lifetime()
        self._holder = holder_id(serve.get_replica_context().replica_id.unique_id)
        registration: Registration = await registrar.register.remote(
            self._holder, ray.get_runtime_context().get_node_id()
        )
        self._ticket_key = registration.ticket_key
        await self._lifetime.open(
            lambda stack, tasks: self._open(engine, directory, registration, stack, tasks),
        )

    async def generate(self, ticket: Ticket, words: bytes, sampling: Sampling) -> AsyncIterator[Delta | Declined]:
        """Continue a prompt, or decline at once and do nothing. Raises `BadTicket`, `EngineDead`, and `Unservable`."""
        verify(ticket, self._ticket_key, time.time())
        arrived = time.perf_counter()
        self._publisher.counted(ticket.router, ticket.number)
        if not ticket.suits(self._holder, (load := self._publisher.load()).waiting_prefill_tokens):
            yield Declined(load)
            return
        if not ticket.published:
            self._publisher.hide(ticket.salt)
        request = EngineRequest(ticket.id, words, ticket.salt, sampling)
        ending: Finish = "cancelled"
        last, produced, recorded = None, 0, False
        try:
            async with aclosing(self._engine.generate(request)) as deltas:
                async for delta in deltas:
                    last = delta
                    produced += len(delta.token_ids)
                    ending = delta.finish or ending
                    if delta.finish:  # a client that has its answer has been billed for it
                        await self._usage.record(self._used(ticket, request, ending, last, produced))
                        recorded = True
                    yield delta
        except Exception:
            ending = "failed"
            raise
        finally:
            total_ms = (time.perf_counter() - arrived) * 1e3
            self._publisher.served(_served(ticket, request, ending, last, produced, total_ms))
            if not recorded:
                self._usage.later(self._used(ticket, request, ending, last, produced))

    def _used(self, ticket: Ticket, request: EngineRequest, ending: Finish, last: Delta | None, produced: int) -> Usage:
        cached, block_tokens = last.cached_tokens if last else 0, self._engine.capacity().block_tokens
        prompt = request.prompt_tokens
        return Usage.of(ticket, self._model, block_tokens, prompt, cached, produced, ending)

    async def capacity(self) -> Capacity:
        """What this replica can hold, and how long a prompt it takes."""
        return self._engine.capacity()

    async def status(self) -> ReplicaStatus:
        """What this replica holds and has to do."""
        try:
            load, state = self._engine.load(), "up"
        except EngineDead as exc:
            load, state = EngineLoad(0, 0, 0, 0), str(exc)
        return ReplicaStatus(
            replica=self._holder,
            pid=os.getpid(),
            engine=state,
            running_sequences=load.running_sequences,
            waiting_prefill_tokens=load.waiting_prefill_tokens,
            blocks_held=self._closure.blocks,
            blocks=self._engine.capacity().blocks,
        )

    async def holding(self, holders: Collection[HolderId]) -> Account | None:
        """What this replica, if it is asked, holds as of a batch that it appends at once. Raises `TimeoutError`."""
        if self._holder not in holders:
            return None
        async with asyncio.timeout(_ACCOUNT_S):
            return await self._publisher.account()

    async def rewrite(self, holders: Collection[HolderId]) -> None:
        """Write the page anew, if this replica is among the holders."""
        if self._holder in holders:
            self._publisher.rewrite()

    async def check_health(self) -> None:
        """Serve replaces a replica whose engine has died or whose publisher has ended."""
        self._lifetime.check()
        self._engine.load()

    async def __del__(self) -> None:
        await self._lifetime.close()

    async def _open(
        self,
        settings: EngineSettings,
        directory: DirectorySettings,
        registration: Registration,
        stack: AsyncExitStack,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._engine: Engine = await stack.enter_async_context(open_engine(settings))
        pages = await stack.enter_async_context(open_pages(registration.directory_url, directory))
        block_tokens = self._engine.capacity().block_tokens
        self._closure = Closure(lambda salt: domain_key(salt, self._model, "", block_tokens), block_tokens)
        identity = Identity(self._holder, registration.epoch, registration.mac_key)
        self._usage = await stack.enter_async_context(
            open_usage(registration.accounts_url, settings.cache, registration.ticket_key, self._holder)
        )
        tasks.create_task(self._usage.run())
        self._publisher = Publisher(self._engine, pages, self._closure, identity, time.monotonic, self._pace)
        tasks.create_task(self._publisher.run())


def _served(
    ticket: Ticket, request: EngineRequest, ending: Finish, last: Delta | None, produced: int, total_ms: float
) -> Served:
    return Served(
        decision=ticket.id,
        router=ticket.router,
        finish=ending,
        prompt_tokens=request.prompt_tokens,
        cached_tokens=last.cached_tokens if last else 0,
        output_tokens=produced,
        queue_ms=last.queue_ms if last else total_ms,
        prefill_ms=last.prefill_ms if last else 0.0,
        total_ms=total_ms,
        steps=last.steps if last else 0,
        step_tokens=last.step_tokens if last else 0,
    )
