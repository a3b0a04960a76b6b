"""A fleet in memory whose names rotate under load: real closures, publishers, pages, mirrors and deciders."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import NamedTuple

from kvplane.controlplane.accounts.memory_accounts import MemoryAccounts
from kvplane.controlplane.decide import Asked, Decider
from kvplane.controlplane.epoch_reader import EpochReader
from kvplane.controlplane.roster import Roster
from kvplane.controlplane.rotation import Rotation
from kvplane.controlplane.sight import Sight
from kvplane.directory import Closure, Domain, HolderId, Keyring, MemoryPages, Mirror, Overlay, domain_key, holder_id
from kvplane.directory.epochs import EpochHoldings, NameEpochs
from kvplane.policies import PolicySettings, build_policy
from kvplane.workers import Ticket
from kvplane.workers.engine import Capacity, Delta, EngineDead, EngineEvent, EngineLoad, EngineRequest, Removed, Stored
from kvplane.workers.publisher import Identity, Publisher
from kvplane.workers.renaming import Renaming

MODEL, BLOCK = "m", 4
KEYRING = Keyring(b"m" * 32)
ACME, GLOBEX = Domain("acme", "default"), Domain("globex", "default")
_BLOCKS = 260  # of one cache: all together hold most of what is said
TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


class CachingEngine:
    """Keeps the blocks it used last, the ends of prompts going first, and tells of it."""

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks
        self._held: OrderedDict[bytes, None] = OrderedDict()
        self._events = asyncio.Queue[Sequence[EngineEvent]]()

    def held(self, words: bytes, salt: str) -> int:
        """How many leading blocks of a prompt are there."""
        chain = _chain(words, salt)
        return next((at for at, block in enumerate(chain) if block not in self._held), len(chain))

    def serve(self, words: bytes, salt: str) -> None:
        """Compute a prompt."""
        size, chain, cached = 4 * BLOCK, _chain(words, salt), self.held(words, salt)
        if fresh := chain[cached:]:
            run, parent = words[cached * size : len(chain) * size], chain[cached - 1] if cached else None
            self._events.put_nowait([Stored(tuple(fresh), parent, run, "gpu", None if cached else salt)])
        for block in reversed(chain):
            self._held[block] = None
            self._held.move_to_end(block)
        gone = [self._held.popitem(last=False)[0] for _ in range(len(self._held) - self._blocks)]
        if gone:
            self._events.put_nowait([Removed(tuple(gone))])

    def generate(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        raise EngineDead("this engine only tells events")

    async def events(self) -> AsyncIterator[Sequence[EngineEvent]]:
        while True:
            yield await self._events.get()

    def load(self) -> EngineLoad:
        return EngineLoad(0, 0, 0, 0)

    def capacity(self) -> Capacity:
        return Capacity(self._blocks, BLOCK, 1000, 4)


class Replica:
    """What a replica has beside its HTTP and its Ray. Its name epoch is that which it registered under."""

    def __init__(self, name: str, pages: MemoryPages, epoch: int) -> None:
        self.holder = holder_id(name)
        self.engine = CachingEngine(_BLOCKS)
        self._pages = pages
        self._epoch = epoch
        identity = Identity(self.holder, 1, KEYRING.mac_key(self.holder, 1))
        publisher = Publisher(self.engine, pages, _closure_of(epoch), identity, time.monotonic)
        self.renaming = Renaming(_closure_of, publisher.go_over, epoch, _at_once)
        self.publisher = publisher

    def start(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        return [tasks.create_task(self.publisher.run()), tasks.create_task(self.renaming.run())]


class Router:
    """What decides, over a mirror of its own."""

    def __init__(self, name: str, fleet: "Fleet", epochs: NameEpochs) -> None:
        self.holdings = EpochHoldings()
        self.holdings.epochs = epochs
        self.reader = EpochReader(fleet.accounts, self.holdings)
        self.mirror = Mirror(fleet.pages, self.holdings, KEYRING.mac_key, lambda holder, served: None, time.monotonic)
        sight = Sight(self.holdings, self.mirror, Overlay(name, lambda: fleet.now_s), fleet.roster)
        policy = build_policy(PolicySettings(name="smg"), Random(0))
        self._decider = Decider(name, MODEL, BLOCK, KEYRING, sight, policy, "test")

    def place(self, words: bytes, domain: Domain) -> tuple[int, Ticket]:
        """The most blocks of a prompt that any replica is seen to hold, and where it goes."""
        asked = Asked(domain, words, 1, None, time.time() + 5)
        seen = self._decider.held_tokens(asked) // BLOCK
        ticket = self._decider.issue(self._decider.decide(asked), asked, TRACEPARENT)
        self._decider.ended(ticket)
        return seen, ticket


class Counted(NamedTuple):
    """Blocks of prompts: those that some replica held, those of them that the router saw, and those reused."""

    held: int
    seen: int
    reused: int


class Fleet:
    """Some replicas, some routers and the registrar's rotation. Every router and every replica has its own pace."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.pages = MemoryPages()
        self.accounts = MemoryAccounts(lambda: self.now_s)
        self.roster = Roster()
        self.replicas: dict[str, Replica] = {}
        self.routers: list[Router] = []
        self.rotation = Rotation(self.accounts, self, lambda: self.now_s)
        self._begun_s: dict[int, float] = {}
        self._chance = Random(7)
        self._turns = [0] * 24  # of conversations

    async def look_ups(self) -> Sequence[NameEpochs | None]:
        return [router.holdings.epochs for router in self.routers]

    async def rename(self, epoch: int) -> Sequence[int | None]:
        """Each replica is out of reach for two seconds longer than the one before."""
        begun_s = self._begun_s.setdefault(epoch, self.now_s)
        return [
            replica.renaming.aim(epoch) if self.now_s >= begun_s + 2 * number else None
            for number, replica in enumerate(self.replicas.values())
        ]

    def live(self) -> list[HolderId]:
        return [replica.holder for replica in self.replicas.values()]

    def join(self, replica: Replica) -> None:
        self.replicas[replica.holder] = replica
        self.roster.update(self.live())

    async def second(self, requests: int = 25) -> Counted:
        """Some requests, routers taking turns; then a step of all that keeps epochs."""
        counted = []
        for number in range(requests):
            words, domain = self._next()
            seen, ticket = self.routers[number % len(self.routers)].place(words, domain)
            engines = {replica.holder: replica.engine for replica in self.replicas.values()}
            held = {holder: engine.held(words, ticket.salt) for holder, engine in engines.items()}
            most = max(held.values())
            counted.append(Counted(most, min(seen, most), held[holder_id(ticket.ranks[0])]))
            engines[holder_id(ticket.ranks[0])].serve(words, ticket.salt)
            for _ in range(8):  # the page is written and read while the next prompt is on its way
                await asyncio.sleep(0)
        self.now_s += 1
        for number, router in enumerate(self.routers):
            if int(self.now_s) % (5 * number + 1) == 0:
                await router.reader.look()
        await self.rotation.step()
        return Counted(*map(sum, zip(*counted, strict=True)))

    def _next(self) -> tuple[bytes, Domain]:
        """A conversation's next turn: its tenant's system prompt, and all that was said; a long one begins anew."""
        number = min(self._chance.randrange(24), self._chance.randrange(24))
        turn = self._turns[number] = self._turns[number] + 1
        system = [number % 2] * 6 * BLOCK
        said = [(number << 16) + (turn // 12 << 8) + at for at in range((turn % 12) * 3 * BLOCK + 1)]
        return b"".join(token.to_bytes(4, "little") for token in (*system, *said)), (ACME, GLOBEX)[number % 2]


@asynccontextmanager
async def fleet(
    replicas: int = 4, routers: int = 2, blocks: int = 260
) -> AsyncIterator[tuple[Fleet, asyncio.TaskGroup]]:
    """Replicas, and routers that have met them."""
    made = Fleet()
    async with asyncio.TaskGroup() as tasks:
        running = []
        for number in range(replicas):
            replica = Replica(f"r{number}", made.pages, 0)
            running += replica.start(tasks)
            made.join(replica)
        for number in range(routers):
            router = Router(f"router{number}", made, NameEpochs())
            running.append(tasks.create_task(router.mirror.run(made.live)))
            made.routers.append(router)
        for router in made.routers:
            await read(router, made.live())
        yield made, tasks
        for task in running:
            task.cancel()


async def read(router: Router, holders: Sequence[HolderId]) -> None:
    """Wait until a router has read every page."""
    async with asyncio.timeout(10):
        while any(router.mirror.seen(holder) is None for holder in holders):
            await asyncio.sleep(0.01)


def _chain(words: bytes, salt: str) -> list[bytes]:
    """A name of each block that can be reused, as an engine has it."""
    return [salt.encode() + words[:end] for end in range(4 * BLOCK, len(words), 4 * BLOCK)]


async def _at_once() -> None:
    """No pause before a page is written anew."""


def _closure_of(epoch: int) -> Closure:
    return Closure(lambda salt: domain_key(salt, MODEL, "", BLOCK, epoch), BLOCK)
