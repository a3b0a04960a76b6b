"""The replica half: verifies the ticket, generates under its salt, and keeps the replica's page.

Started with OPENBLAS_NUM_THREADS=1 in its environment, so that replicas on one host do not fight for cores.
"""

import asyncio
import os
import random
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
    domain_key,
    holder_id,
    open_pages,
)
from .engine import Capacity, Delta, Engine, EngineDead, EngineLoad, Sampling
from .engines import EngineSettings, open_engine
from .gone_routers import GoneRouters, serve_processes
from .lifetime import Lifetime
from .pace import Pace
from .publisher import Identity, Publisher
from .renaming import Renaming, spread_s
from .serving import Serving
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
    name_epoch: int = 0

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
        self._publisher.counted(ticket.router, ticket.number)
        if not ticket.suits(self._holder, (load := self._publisher.load()).waiting_prefill_tokens):
            yield Declined(load)
            return
        if not ticket.published:
            self._publisher.hide(ticket.salt)
        request = ticket.request(words, sampling)
        async with aclosing(self._serving.generate(ticket, request)) as deltas:
            async for delta in deltas:
                yield delta

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
            blocks_held=self._publisher.blocks,
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

    async def rename(self, name_epoch: int) -> int:
        """Have the page go over to a name epoch; gives the one it is in."""
        return self._renaming.aim(name_epoch)

    async def check_health(self) -> None:
        """Serve replaces a replica whose engine has died or whose publisher has ended."""
        self._lifetime.check()
        self._engine.load()

    async def __del__(self) -> None:
        await self._lifetime.close()

    async def _pause(self) -> None:
        """A part of the time in which all replicas write their pages anew, each drawing its own."""
        await asyncio.sleep(random.random() * spread_s(self._pace, self._publisher.blocks))

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

        def closure_of(epoch: int) -> Closure:
            return Closure(lambda salt: domain_key(salt, self._model, "", block_tokens, epoch), block_tokens)

        epoch = registration.name_epoch
        identity = Identity(self._holder, registration.epoch, registration.mac_key)
        usage = await stack.enter_async_context(
            open_usage(registration.accounts_url, settings.cache, registration.ticket_key, self._holder)
        )
        tasks.create_task(usage.run())
        self._publisher = Publisher(self._engine, pages, closure_of(epoch), identity, time.monotonic, self._pace)
        tasks.create_task(self._publisher.run())
        self._renaming = Renaming(closure_of, self._publisher.go_over, epoch, self._pause)
        tasks.create_task(self._renaming.run())
        gone = GoneRouters(serve_processes)
        tasks.create_task(gone.run())
        self._serving = Serving(self._model, self._engine, usage, self._publisher.served, gone)
