"""A mirror that applies stores and removals through real replies of a real Redis, and what its table weighs."""

import gc
import tracemalloc
from collections.abc import Sequence
from statistics import median

from kvplane.directory import Level, open_pages

from .child import Child, in_child
from .errors import BenchError
from .forest import Forest, Stretch, last_quarter, placed
from .ingest_rows import OURS, REMOVE, STORE, IngestRow
from .kvplane_index import KvplaneIndex
from .reader import SETTINGS, Mirrored, mirroring
from .reading import Freeze, Reach, Reached, TellDigests
from .scribe import Scribes

_ROUNDS = 3


async def mirror_rows(url: str, forest: Forest) -> list[IngestRow]:
    """All that the forest places is stored; then its last quarter is removed and stored again, in rounds.

    The reader stands still while pages are written, so that replies come full. Raises `BenchError` if it ends inexact.
    """
    stretches = list(forest.stretches())
    last = last_quarter(stretches)
    async with open_pages(url, SETTINGS) as pages:
        scribes = Scribes(pages, forest.replicas)
        await scribes.begin()
        with mirroring(Mirrored(url, list(scribes.places), clocked=False)) as (mirror, _):
            mirror.ask(Reach(scribes.places))
            stores = [await _applied(mirror, scribes, stretches, Level.GPU)]
            removals: list[float] = []
            for _ in range(_ROUNDS):
                removals.append(await _applied(mirror, scribes, last, Level.NONE))
                stores.append(await _applied(mirror, scribes, last, Level.GPU))
            if mirror.ask(TellDigests(recounts=2)) != scribes.digests:
                raise BenchError("the mirror is not exact")
    weight = in_child(weigh, forest)
    return [
        IngestRow(OURS, STORE, forest.replicas, forest.blocks, round(median(stores)), round(weight, 1)),
        IngestRow(OURS, REMOVE, forest.replicas, forest.blocks, round(median(removals)), None),
    ]


async def _applied(mirror: Child, scribes: Scribes, stretches: Sequence[Stretch], level: Level) -> float:
    """Blocks a CPU second of the reader's process."""
    made = scribes.made(stretches, level)
    mirror.ask(Freeze())
    await scribes.write(made)
    reached: Reached = mirror.ask(Reach(scribes.places))
    return placed(stretches) / reached.cpu_s


def weigh(forest: Forest) -> float:
    """Bytes a placed block that the table holds after all was stored and a quarter removed and stored again."""
    stretches = list(forest.stretches())
    last = last_quarter(stretches)
    index = KvplaneIndex()
    applies = [index.store(stretches), index.remove(last), index.store(last)]
    gc.collect()
    tracemalloc.start()
    for apply in applies:
        apply()
    gc.collect()
    return tracemalloc.get_traced_memory()[0] / placed(stretches)
