"""The decide benchmark: process CPU of whole decisions, of their parts, and of the tickets behind them."""

import asyncio
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median, quantiles
from typing import ParamSpec, TypeVar

from kvplane.controlplane.decision import Decision
from kvplane.policies import RoutedRequest

from .decide_fleet import MAX_TOKENS, Fleet, prefix_of
from .decide_rows import DecideRow
from .errors import BenchError
from .forest import BLOCK_TOKENS, Forest, Prompt
from .kvplane_index import holder_of

EXTENTS = (1, 8)

P = ParamSpec("P")
T = TypeVar("T")

_TOKENS, _CACHED_PERCENT = 4096, 95
_BLOCKS_A_REPLICA = 1000
_PROMPTS = 8  # so that what is asked for is not always at hand
_SENT = range(100, 108)  # prompts whose tickets are under way
_DECISIONS_A_REPLICA = 0.5  # between two heartbeats of all pages, which a mirror of many reads at one go
_UNMEASURED = 50
_TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


def decide(replicas: Sequence[int], extents: Sequence[int] = EXTENTS, decisions: int = 2000) -> list[DecideRow]:
    """Measure every fleet with every kind of prompt that can be. Raises `BenchError` for a wrong candidate."""
    return [row for count in replicas for row in asyncio.run(_of_fleet(count, extents, decisions))]


async def _of_fleet(replicas: int, extents: Sequence[int], decisions: int) -> list[DecideRow]:
    forest = Forest(replicas, replicas * _BLOCKS_A_REPLICA)
    rows = []
    for distinct in extents:
        prompts = list(_prompts(forest, distinct, range(_PROMPTS)))
        if not prompts:
            continue
        print(f"{replicas} replicas, {distinct} extents: filling", file=sys.stderr, flush=True)
        fleet = Fleet(replicas)
        async with fleet.open():
            fleet.index.store(forest.stretches())()
            fleet.index.store([stretch for prompt in prompts for stretch in prompt.stretches])()
            fleet.send(list(_prompts(forest, distinct, _SENT)))
            gc.collect()
            gc.freeze()  # as a router does whose table has grown: no collection goes through it
            try:
                rows.append(await _measured(fleet, prompts, distinct, decisions))
            finally:
                gc.unfreeze()
    return rows


def _prompts(forest: Forest, extents: int, numbers: Sequence[int]) -> Iterator[Prompt]:
    for number in numbers:
        prompt = forest.prompt(_TOKENS, _CACHED_PERCENT, extents, number)
        if prompt is not None:
            yield prompt


async def _measured(fleet: Fleet, prompts: Sequence[Prompt], extents: int, decisions: int) -> DecideRow:
    decider, sight, request = fleet.decider, fleet.sight, RoutedRequest(_TOKENS, MAX_TOKENS, BLOCK_TOKENS)
    took_us: dict[str, list[float]] = {part: [] for part in ("decide", "issue", "find", "look", "choose")}
    for number in range(decisions + _UNMEASURED):
        if number % round(fleet.replicas * _DECISIONS_A_REPLICA) == 0:
            await fleet.speak()
        prompt = prompts[number % len(prompts)]
        asked, prefix = fleet.asked(prompt), prefix_of(prompt)
        decision = _timed(took_us["decide"], decider.decide, asked)
        ticket = _timed(took_us["issue"], decider.issue, decision, asked, _TRACEPARENT)
        fleet.end(ticket)
        _timed(took_us["find"], sight.holdings.find, prefix)
        _timed(took_us["look"], sight.look, prefix, number)
        _timed(took_us["choose"], fleet.policy.choose, request, decision.candidates)
        if number < len(prompts):
            _check(decision, prompt)
    medians = {part: round(median(times[_UNMEASURED:]), 1) for part, times in took_us.items()}
    p99_us = round(quantiles(took_us["decide"][_UNMEASURED:], n=100)[-1], 1)
    print(f"{fleet.replicas} replicas, {extents} extents: {medians}", file=sys.stderr, flush=True)
    return DecideRow(
        candidates=fleet.replicas,
        distinct_extents=extents,
        tokens=_TOKENS,
        p50_us=medians["decide"],
        p99_us=p99_us,
        find_us=medians["find"],
        look_us=medians["look"],
        choose_us=medians["choose"],
        issue_us=medians["issue"],
    )


def _timed(took_us: list[float], call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    began_ns = time.process_time_ns()
    found = call(*args, **kwargs)
    took_us.append((time.process_time_ns() - began_ns) / 1e3)
    return found


def _check(decision: Decision, prompt: Prompt) -> None:
    """Raises `BenchError` unless every candidate is seen to hold what it holds."""
    wanted = {holder_of(replica): blocks * BLOCK_TOKENS for replica, blocks in prompt.extents.items()}
    found = {each.replica: each.disk_tokens - each.expected_tokens for each in decision.candidates}
    if decision.choice is None or {str(each): tokens for each, tokens in found.items() if tokens} != wanted:
        raise BenchError(f"the candidates are wrong: wanted {wanted}, got {found}")
