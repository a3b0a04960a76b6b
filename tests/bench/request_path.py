"""The request path benchmark: what keys, rules and limits add to a router's part of a request, beside one without."""

import asyncio
import gc
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from kvplane.controlplane.gate import Gate

from .decide_fleet import MAX_TOKENS, Fleet
from .errors import BenchError
from .forest import BLOCK_TOKENS, Forest, Prompt
from .request_path_rows import LIMITS, NO_RULES, PARTS, WITHOUT, RequestPathRow, row_of
from .request_path_tenants import Accounts, Sender, Traffic, open_tenants, senders
from .request_path_ways import Laps, Through, Way, Without

EXTENTS = (1, 8)

_TOKENS, _CACHED_PERCENT = 4096, 95
_BLOCKS_A_REPLICA = 1000
_PROMPTS, _SENT = range(8), range(100, 108)  # asked for; with tickets under way
_LASTS_S = 1.0  # a request, for its tenant's limits
_UNMEASURED_S = 2.0
_HEARTBEAT_S = 0.25
_LATE_S = 0.1  # what a machine that stood still longer has missed does not come all at once


@dataclass(frozen=True, slots=True)
class Run:
    """How many requests are measured of each kind, how many a second come, and where the store's file is."""

    requests: int = 2000
    requests_per_s: float = 200.0
    disk: Path | None = None  # None: where temporary files are


def request_path(replicas: Sequence[int], extents: Sequence[int] = EXTENTS, run: Run = Run()) -> list[RequestPathRow]:
    """Measure every fleet with every kind of prompt that can be. Raises `BenchError` for a request that is refused."""
    rows: list[RequestPathRow] = []
    for count in replicas:
        forest = Forest(count, count * _BLOCKS_A_REPLICA)
        for distinct in extents:
            if prompts := _prompts(forest, distinct, _PROMPTS):
                print(f"{count} replicas, {distinct} extents: filling", file=sys.stderr, flush=True)
                with _first_told():
                    rows += asyncio.run(_of_fleet(forest, distinct, prompts, run))
    return rows


@contextmanager
def _first_told() -> Iterator[None]:
    """What ends one request ends all: the first such error, out of the groups that tasks put it in."""
    try:
        yield
    except ExceptionGroup as exc:
        told: BaseException | None = exc.subgroup(BenchError)
        while isinstance(told, BaseExceptionGroup):
            told = told.exceptions[0]
        raise told or exc from exc


async def _of_fleet(forest: Forest, extents: int, prompts: Sequence[Prompt], run: Run) -> Sequence[RequestPathRow]:
    fleet, tokens = Fleet(forest.replicas), _TOKENS + MAX_TOKENS
    traffic = Traffic(run.requests_per_s, tokens, -(-tokens // BLOCK_TOKENS), _LASTS_S)
    unmeasured = round(_UNMEASURED_S * run.requests_per_s)
    arrivals = list(zip(senders(unmeasured + run.requests), cycle(prompts), strict=False))
    async with fleet.open(), open_tenants(traffic.rules, run.disk) as accounts:
        fleet.index.store(forest.stretches())()
        fleet.index.store([stretch for prompt in prompts for stretch in prompt.stretches])()
        fleet.send(_prompts(forest, extents, _SENT))
        async with _ways(fleet, accounts) as (ways, tidying):
            laps = await _laps(fleet, ways, arrivals, run.requests_per_s)
    measured = {way: each[unmeasured:] for way, each in laps.items()}
    rows = [row_of(forest.replicas, extents, part, measured) for part in PARTS]
    print(f"{forest.replicas} replicas, {extents} extents: {rows[-1]}", file=sys.stderr, flush=True)
    given_back = accounts.buckets.trips_of(tidying) * 1000 / len(arrivals)
    return [*rows, RequestPathRow(forest.replicas, extents, "tidy", round_trips_per_1000=round(given_back, 1))]


def _prompts(forest: Forest, extents: int, numbers: Sequence[int]) -> Sequence[Prompt]:
    found = [forest.prompt(_TOKENS, _CACHED_PERCENT, extents, number) for number in numbers]
    return [prompt for prompt in found if prompt is not None]


@asynccontextmanager
async def _ways(fleet: Fleet, accounts: Accounts) -> AsyncIterator[tuple[Mapping[str, Way], asyncio.Task[None]]]:
    """All three, and the task that meanwhile gives back what lies idle of the limits."""
    no_rules, limits = (Gate(accounts.buckets, "bench", lambda: 1, BLOCK_TOKENS) for _ in range(2))
    gc.collect()
    gc.freeze()  # as a router does whose table has grown: no collection goes through it
    try:
        async with asyncio.TaskGroup() as tasks:
            tidying = tasks.create_task(_tidying(limits, accounts))
            ways: Mapping[str, Way] = {
                WITHOUT: Without(fleet),
                NO_RULES: Through(fleet, accounts.without_rules, no_rules),
                LIMITS: Through(fleet, accounts.limited, limits, lambda: accounts.buckets.trips),
            }
            yield ways, tidying
            tidying.cancel()
    finally:
        gc.unfreeze()


async def _tidying(limits: Gate, accounts: Accounts) -> None:
    assert not accounts.buckets.trips, "it has only begun"
    await limits.run()


async def _laps(
    fleet: Fleet, ways: Mapping[str, Way], arrivals: Sequence[tuple[Sender, Prompt]], requests_per_s: float
) -> Mapping[str, Sequence[Laps]]:
    """Of every request by every way, begun as often a second as real ones, however long the ones before wait."""
    laps: Mapping[str, list[Laps]] = {way: [] for way in ways}
    order = deque(ways)
    due_s = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number, (sender, prompt) in enumerate(arrivals):
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            due_s = max(due_s, time.perf_counter() - _LATE_S) + 1 / requests_per_s
            if number % max(1, round(_HEARTBEAT_S * requests_per_s)) == 0:
                await fleet.speak()
            order.rotate()
            tasks.create_task(_through([(ways[name], laps[name]) for name in order], sender, prompt))
    return laps


async def _through(ways: Sequence[tuple[Way, list[Laps]]], sender: Sender, prompt: Prompt) -> None:
    """One request by every way in turn, and a while later its end."""
    requests = [await way.place(sender, prompt) for way, _ in ways]
    await asyncio.sleep(_LASTS_S)
    for (way, laps), placed in zip(ways, requests, strict=True):
        await way.end(placed)
        laps.append(placed.laps)
