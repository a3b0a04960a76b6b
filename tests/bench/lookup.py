"""The lookup benchmark: process CPU of asking who holds how much of a prompt, ours and the peers' in turns."""

import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median

from .errors import BenchError
from .forest import Forest, Prompt
from .index import Index, Look
from .kvplane_index import KvplaneIndex
from .lookup_rows import LookupRow
from .peers import PEERS, have_peers, open_peer

CACHED_PERCENT = (0, 50, 95)
EXTENTS = (0, 1, 8, 64)  # none where nothing is cached

Clock = Callable[[], float]

_PROMPTS = 8
_ROUNDS = 7
_ROUND_S = 0.02


@dataclass(frozen=True, slots=True)
class Sizes:
    """What to measure: every combination that can be."""

    replicas: Sequence[int] = (256,)
    blocks: Sequence[int] = (1_000_000,)
    tokens: Sequence[int] = (512, 4096, 32768, 131072)
    cached_percent: Sequence[int] = CACHED_PERCENT
    extents: Sequence[int] = EXTENTS


FULL = Sizes(replicas=(8, 64, 256, 1024), blocks=(100_000, 1_000_000, 10_000_000))


def lookup(sizes: Sizes) -> list[LookupRow]:
    """Measure every combination. Raises `BenchError` where an answer is wrong."""
    return [
        row
        for replicas, blocks in product(sizes.replicas, sizes.blocks)
        for row in _measured(Forest(replicas, blocks), sizes)
    ]


def _measured(forest: Forest, sizes: Sizes) -> Iterator[LookupRow]:
    print(f"{forest.replicas} replicas, {forest.blocks} blocks: filling", file=sys.stderr, flush=True)
    stretches = list(forest.stretches())
    indexes: list[Index] = [KvplaneIndex()]
    try:
        indexes += [open_peer(impl, forest.replicas) for impl in (PEERS if have_peers() else ())]
        for index in indexes:
            index.store(stretches)()
        del stretches
        gc.collect()
        gc.freeze()  # as a router does whose table has grown: no collection goes through it
        for tokens, cached, extents in product(sizes.tokens, sizes.cached_percent, sizes.extents):
            prompts = _prompts(forest, tokens, cached, extents)
            if prompts:
                yield from _rows(forest, indexes, prompts, (tokens, cached, extents))
    finally:
        for index in indexes:
            index.close()
        gc.unfreeze()


def _prompts(forest: Forest, tokens: int, cached: int, extents: int) -> Sequence[Prompt]:
    """Up to eight, so that what is asked for is not always at hand; fewer where they would crowd the forest."""
    prompts: list[Prompt] = []
    placed = 0
    for number in range(_PROMPTS):
        prompt = forest.prompt(tokens, cached, extents, number)
        if prompt is None:
            break
        placed += sum(stretch.placed for stretch in prompt.stretches)
        if prompts and placed > forest.blocks // 4:
            break
        prompts.append(prompt)
    return prompts


def _rows(
    forest: Forest, indexes: Sequence[Index], prompts: Sequence[Prompt], workload: tuple[int, int, int]
) -> Iterator[LookupRow]:
    """Place what the prompts need, check every answer, measure in turns, take it away again."""
    stretches = [stretch for prompt in prompts for stretch in prompt.stretches]
    for index in indexes:
        index.store(stretches)()
    looks = {impl: look for index in indexes for impl, look in index.looks().items()}
    for impl, look in looks.items():
        check(impl, look, prompts)
    found = measure(looks, prompts)
    for index in indexes:
        index.remove(stretches)()
    tokens, cached, extents = workload
    medians = ", ".join(f"{impl} {cpu_us:.1f}" for impl, cpu_us in found.items())
    print(f"{tokens} tokens, {cached} % cached, {extents} extents: {medians}", file=sys.stderr, flush=True)
    for impl, cpu_us in found.items():
        yield LookupRow(impl, forest.replicas, forest.blocks, tokens, cached, extents, round(cpu_us, 1))


def measure(
    looks: Mapping[str, Look], prompts: Sequence[Prompt], clock: Clock = time.process_time
) -> Mapping[str, float]:
    """CPU microseconds a look-up: the median of rounds that take turns, so that one disturbed round does not count."""
    rounds: dict[str, list[float]] = {impl: [] for impl in looks}
    repeats = {impl: max(1, round(_ROUND_S / max(1e-6, _cpu_s(look, prompts, clock)))) for impl, look in looks.items()}
    for number in range(_ROUNDS):
        for impl in list(looks)[:: 1 if number % 2 == 0 else -1]:
            rounds[impl].append(_cpu_s(looks[impl], prompts, clock, repeats[impl]))
    return {impl: 1e6 * median(found) / len(prompts) for impl, found in rounds.items()}


def _cpu_s(look: Look, prompts: Sequence[Prompt], clock: Clock, repeats: int = 1) -> float:
    """Of asking all prompts once."""
    began = clock()
    for _ in range(repeats):
        look.ask(prompts)
    return (clock() - began) / repeats


def check(impl: str, look: Look, prompts: Sequence[Prompt]) -> None:
    """Raises `BenchError` for the first prompt that is not answered as it should be."""
    for answer, prompt in zip(look.ask(prompts), prompts, strict=True):
        if not look.right(answer, prompt):
            raise BenchError(f"{impl} answers wrongly: wanted {dict(prompt.extents)}, got {answer}")
