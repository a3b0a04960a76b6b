"""Runs a trace: the real decision, directory and overlay over simulated replicas, open loop, in virtual time."""

import asyncio
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

import xxhash

from ...directory import Domain, HolderId, Keyring, Load, MemoryPages, domain_key
from ...policies import Policy, PolicySettings, build_policy
from ...workers import Ticket
from ...workers.engine import Capacity
from ...workers.pace import Pace
from ...workers.publisher import Identity
from ..accounts.memory_accounts import MemoryAccounts
from ..decide import Asked
from ..errors import ApiError
from ..router_half import DECISIONS
from .fleet import FleetSettings, check_fit
from .front import MODEL, Front, Limits, Routed
from .job import Job
from .lagged_pages import LaggedPages
from .node import Node
from .record import Record
from .run import Run
from .timing import Slowed
from .trace import Trace, TraceRequest
from .virtual_time import LeapingLoop
from .words import words_of

ORACLE = "oracle"  # sends each request where its first token would come soonest, were it the last one
_SAMPLES = 80  # of the fleet while requests arrive
_BLOCKS_EVERY = 5  # samples; to look into every cache costs as much as to simulate for so long
_FIRST_S = 1.0
_NEVER_S = 1e12
_EPOCH = 1
_ANY_LENGTH = 1 << 40

Progress = Callable[[int], None]
Build = Callable[[PolicySettings, Random], Policy]
Decided = Callable[[int, Routed], None]
Declined = tuple[Ticket, Load]


def replay(
    trace: Trace,
    policy: PolicySettings | None,
    fleet: FleetSettings,
    seed: int = 1,
    progress: Progress | None = None,
    build: Build = build_policy,
    limits: Limits | None = None,
    decided: Decided = lambda number, routed: None,
) -> Run:
    """Run a trace once; without a policy, as the oracle does. The same arguments give the same run.

    `progress` is told how many requests were decided; `build` makes the policy of each router; `decided` is told each
    that was let in, by its number; one that `limits` refuse has failed. Raises `BadTrace` for one that fits no replica.
    """
    check_fit(trace, fleet)
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        told = progress or (lambda done: None)
        return runner.run(_Replay(trace, policy, fleet, seed, told, build, limits, decided).run())


class _Replay:
    def __init__(
        self,
        trace: Trace,
        policy: PolicySettings | None,
        fleet: FleetSettings,
        seed: int,
        progress: Progress,
        build: Build,
        limits: Limits | None,
        decided: Decided,
    ) -> None:
        self._trace = trace
        self._policy = policy
        self._fleet = fleet
        self._seed = seed
        self._progress = progress
        self._build = build
        self._limits = limits
        self._decided = decided
        self._keyring = Keyring(b"replay".ljust(32, b"."))
        tenants = trace.tenants
        self._domain_of = {tenant: number for number, tenant in enumerate(tenants)}
        self._domains = [Domain(tenant, "replay") for tenant in tenants]
        self._salts = [self._keyring.salt(domain) for domain in self._domains]  # then those of one request each
        self._number_of = {salt: number for number, salt in enumerate(self._salts)}
        self._nodes: dict[str, Node] = {}  # those that are up
        self._publishing: dict[str, asyncio.Task[None]] = {}
        self._record = Record(len(trace.requests))
        self._left = len(trace.requests)
        self._slowed = [1.0] * len(fleet.names)
        self._failure: Exception | None = None

    async def run(self) -> Run:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._fail)
        self._all_ended = asyncio.Event()
        self._pages = LaggedPages(MemoryPages(), self._fleet.lag_s, self._loop.time)
        self._accounts = MemoryAccounts(self._loop.time)
        self._fronts = [self._front(number) for number in range(self._fleet.routers)]
        async with asyncio.TaskGroup() as self._tasks:
            for number in range(self._fleet.replicas):
                self._join(number)
            running = [self._tasks.create_task(front.run()) for front in self._fronts] if self._policy else []
            await asyncio.sleep(_FIRST_S + self._fleet.lag_s)  # pages are read by then
            self._began_ms = self._loop.time() * 1e3
            running += [self._tasks.create_task(task) for task in (self._befall(), self._sample())]
            await self._arrive()
            await self._all_ended.wait()
            if self._failure is not None:
                raise self._failure
            for task in (*running, *self._publishing.values()):
                task.cancel()
        for node in self._nodes.values():
            self._record.evicted += node.replica.evicted_blocks
        name = self._policy.name if self._policy else ORACLE
        return self._record.run(name, self._seed, self._trace, self._fleet, self._began_ms)

    def _fail(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # Any: asyncio's own
        """A timer that raises must end the replay, not hang it."""
        self._failure = context.get("exception") or RuntimeError(context["message"])
        self._all_ended.set()

    def _front(self, number: int) -> Front:
        random = Random(f"{self._seed} {number}")
        policy = self._policy or PolicySettings(name="round_robin")  # the oracle asks none
        built = self._build(policy, random)
        front = Front(f"router-{number}", self._trace.block_tokens, self._keyring, self._pages, built, policy.name)
        if self._limits is not None:
            front.limit(self._limits, self._accounts, self._fleet.routers)
        return front

    async def _arrive(self) -> None:
        for number, request in enumerate(self._trace.requests):
            await self._until(request.at_ms)
            if self._limits is not None and self._limits.store_s:
                self._tasks.create_task(self._ask(number, request))  # others come while it waits for the store
            else:
                await self._ask(number, request)

    async def _ask(self, number: int, request: TraceRequest) -> None:
        if self._policy is None:
            ticket = self._plain(number, request)
            job = self._job(number, request, ticket)
            self._submit(self._soonest(job), job, ticket)
        else:
            front = self._fronts[number % len(self._fronts)]
            try:
                asked = await front.admit(self._asked(request))
                declined = self._offer(front, number, asked, firm=False)
            except ApiError:
                self._count_ended()
            else:
                if declined is not None:
                    self._tasks.create_task(self._again(front, number, asked, declined))
        self._progress(number + 1)

    def _offer(self, front: Front, number: int, asked: Asked, firm: bool) -> Declined | None:
        """Have a router choose a replica, and that take the request or decline."""
        routed = front.route(asked, firm)
        assert not front.decider.failures, "in a replay nothing that raised is survived"
        node = self._nodes[routed.ticket.ranks[0]]
        load = node.declines(routed.ticket)
        if load is not None:
            return routed.ticket, load
        self._decided(number, routed)
        self._submit(node, self._job(number, self._trace.requests[number], routed.ticket), routed.ticket)
        return None

    async def _again(self, front: Front, number: int, asked: Asked, declined: Declined) -> None:
        for left in reversed(range(DECISIONS - 1)):
            self._record.declines += 1
            await asyncio.sleep(self._fleet.round_trip_s)
            front.decider.declined(*declined, asked.budget)
            try:
                again = self._offer(front, number, asked, firm=not left)
            except ApiError:
                self._count_ended()
                return
            if again is None:
                return
            declined = again

    def _asked(self, request: TraceRequest) -> Asked:
        words = words_of(request.block_ids, request.prompt_tokens, self._trace.block_tokens)
        domain, max_tokens = self._domains[self._domain_of[request.tenant]], self._fleet.max_tokens
        affinity = xxhash.xxh3_64_intdigest(request.session) >> 1 if request.session else 0
        return Asked(domain, words, max(max_tokens, request.output_tokens), None, _NEVER_S, affinity)

    def _job(self, number: int, request: TraceRequest, ticket: Ticket) -> Job:
        domain = self._number_of.setdefault(ticket.salt, len(self._salts))
        if domain == len(self._salts):
            self._salts.append(ticket.salt)
        return Job(number, domain, request.block_ids, request.prompt_tokens, max(1, request.output_tokens))

    def _submit(self, node: Node, job: Job, ticket: Ticket) -> None:
        self._record.sent(job, int(node.holder.rpartition("-")[2]))
        node.submit(job, ticket)

    def _end(self, job: Job, ticket: Ticket) -> None:
        if self._policy is not None:
            self._fronts[job.key % len(self._fronts)].decider.ended(ticket)
        self._count_ended()

    def _count_ended(self) -> None:
        self._left -= 1
        if not self._left:
            self._all_ended.set()

    def _soonest(self, job: Job) -> Node:
        """Where the first token would come soonest if nothing came after it; of equals, where there is least to do."""
        nodes = list(self._nodes.values())
        for node in nodes:
            node.catch_up()
        return min(nodes, key=lambda node: (node.replica.first_token_if_submitted(job, node.now_ms), node.sequences))

    def _plain(self, number: int, request: TraceRequest) -> Ticket:
        salt = self._salts[self._domain_of[request.tenant]]
        return Ticket(str(number), ORACLE, number, (), salt, "", _NEVER_S, 0)

    def _join(self, number: int) -> None:
        fleet, name = self._fleet, self._fleet.names[number]
        holder = HolderId(name)
        node = self._nodes[name] = Node(
            fleet.replica(self._trace.block_tokens, self._slowed[number]),
            self._trace.block_tokens,
            Capacity(fleet.blocks, self._trace.block_tokens, _ANY_LENGTH, fleet.max_sequences),
            self._salts,
            lambda salt: domain_key(salt, MODEL, "", self._trace.block_tokens),
            self._pages,
            Identity(holder, _EPOCH, self._keyring.mac_key(holder, _EPOCH)),
            Pace(fleet.heartbeat_s, 0.0),
            self._end,
        )
        self._publishing[name] = self._tasks.create_task(node.run())
        self._tell_roster()

    def _leave(self, number: int) -> None:
        """A replica goes down; what it was serving is repeated elsewhere, from the start."""
        name = self._fleet.names[number]
        node = self._nodes.pop(name)
        self._publishing.pop(name).cancel()
        self._record.evicted += node.replica.evicted_blocks
        self._tell_roster()
        for key, ticket in node.stop().items():
            request = self._trace.requests[key]
            job = self._job(key, request, ticket)
            if self._policy is None:
                self._submit(self._soonest(job), job, ticket)
                continue
            again = self._fronts[key % len(self._fronts)].decider.repeat(ticket, name)
            other = next(rank for rank in (*again.ranks, *self._nodes) if rank in self._nodes)
            self._submit(self._nodes[other], job, again)

    def _slow(self, number: int, factor: float) -> None:
        self._slowed[number] = factor
        node = self._nodes.get(self._fleet.names[number])
        if node is not None:
            node.retime(Slowed(self._fleet.timing, factor))

    def _tell_roster(self) -> None:
        for front in self._fronts:
            front.roster.update(self._nodes)

    async def _befall(self) -> None:
        for incident in sorted(self._fleet.incidents, key=lambda each: each.at_ms):
            await self._until(incident.at_ms)
            match incident.kind:
                case "leaves":
                    self._leave(incident.replica)
                case "joins":
                    self._join(incident.replica)
                case "slows":
                    self._slow(incident.replica, incident.factor)

    async def _sample(self) -> None:
        apart_ms, twice = max(1.0, self._trace.requests[-1].at_ms / _SAMPLES), 0
        for number in count():
            if number % _BLOCKS_EVERY == 0:
                held = [frozenset(node.replica.held()) for node in self._nodes.values()]
                twice = sum(map(len, held)) - len(frozenset().union(*held))
            loads = [0 if node is None else node.sequences for node in map(self._nodes.get, self._fleet.names)]
            self._record.samples.append((self._loop.time() * 1e3 - self._began_ms, loads, twice))
            await asyncio.sleep(apart_ms / 1e3)

    async def _until(self, at_ms: float) -> None:
        await asyncio.sleep(max(0.0, (self._began_ms + at_ms) / 1e3 - self._loop.time()))
