"""Real publishers, many in one process, of engines that only tell events."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

from kvplane.directory import Account, Closure, DomainKey, HolderId, Pages, open_pages
from kvplane.workers.engine import EngineEvent
from kvplane.workers.pace import pace
from kvplane.workers.publisher import Identity, Publisher

from .errors import BenchError
from .forest import BLOCK_TOKENS, KEY, Stretch, fresh
from .kvplane_index import holder_of
from .reader import KEYRING, SETTINGS
from .told_engine import ToldEngine, stored

_EPOCH = 1


@dataclass(frozen=True, slots=True)
class TellAccounts:
    """Once all that is held is published; answered with an `Account` a holder."""


@dataclass(frozen=True, slots=True)
class Emit:
    """Store fresh chains at this pace, at random instants; answered with each chain's last name and its instant."""

    chains: int
    chain_blocks: int
    blocks_per_s: int


@dataclass(frozen=True, slots=True)
class Member:
    """One replica of the fleet."""

    holder: HolderId
    engine: ToldEngine
    closure: Closure
    publisher: Publisher


def fleet(connection: Connection, url: str, replicas: int, placed: Sequence[Stretch] = ()) -> None:
    """Publish, and answer requests, until the connection ends."""
    logging.disable(logging.WARNING)  # faults are struck on purpose
    asyncio.run(_serve(connection, url, replicas, placed))


@asynccontextmanager
async def members(pages: Pages, replicas: int, placed: Sequence[Stretch] = ()) -> AsyncIterator[Sequence[Member]]:
    """The replicas of a fleet, publishing; `placed` is in their closures before they first speak."""
    found = [_member(pages, number, replicas) for number in range(replicas)]
    for stretch in placed:
        event = stored(stretch)
        for replica in stretch.replicas:
            found[replica].closure.store(event.hashes, event.parent, event.words, event.tier, event.salt)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(member.publisher.run()) for member in found]
        yield found
        for task in running:
            task.cancel()


def _member(pages: Pages, number: int, replicas: int) -> Member:
    holder, engine = holder_of(number), ToldEngine()
    closure = Closure(_key_of, BLOCK_TOKENS)
    identity = Identity(holder, _EPOCH, KEYRING.mac_key(holder, _EPOCH))
    publisher = Publisher(engine, pages, closure, identity, time.monotonic, pace(replicas))
    return Member(holder, engine, closure, publisher)


def _key_of(salt: str) -> DomainKey:
    return KEY


async def _serve(connection: Connection, url: str, replicas: int, placed: Sequence[Stretch]) -> None:
    async with open_pages(url, SETTINGS) as pages, members(pages, replicas, placed) as found:
        while True:
            try:
                request = await asyncio.to_thread(connection.recv)
            except EOFError:
                return
            match request:
                case TellAccounts():
                    connection.send(await accounts(found))
                case Emit():
                    connection.send(await _emit(found, request))
                case _:
                    connection.send(BenchError(f"a fleet cannot do {request!r}"))


async def accounts(fleet: Sequence[Member]) -> dict[HolderId, Account]:
    """What each holds, once it is published that far."""
    found = await asyncio.gather(*(member.publisher.account() for member in fleet))
    return {account.holder: account for account in found}


async def _emit(fleet: Sequence[Member], request: Emit) -> list[tuple[int, float]]:
    chances = random.Random(request.blocks_per_s)
    chains = [fresh(number, request.chain_blocks) for number in range(request.chains)]
    emitted: list[tuple[int, float]] = []
    at_s = time.monotonic()
    for chain in chains:
        events: list[EngineEvent] = [stored(chain)]
        at_s += chances.expovariate(request.blocks_per_s / request.chain_blocks)
        await asyncio.sleep(at_s - time.monotonic())
        emitted.append((chain.names[-1], time.monotonic()))
        chances.choice(fleet).engine.tell(events)
    return emitted
