"""The peers' indexes, fed with the same blocks in their own events; each in a process of its own."""

import gc
import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from .child import in_child
from .forest import Forest, Stretch, last_quarter, placed
from .index import Apply, Index
from .ingest_rows import REMOVE, STORE, IngestRow
from .peers import PEERS, have_peers, open_peer

_ROUNDS = 3


def peer_rows(forest: Forest) -> list[IngestRow]:
    """Stores of all that is placed, and removals of a quarter; none where the peers are not installed."""
    return [row for impl in (PEERS if have_peers() else ()) for row in in_child(_measured, impl, forest)]


def _measured(impl: str, forest: Forest) -> list[IngestRow]:
    index = open_peer(impl, forest.replicas)
    try:
        return _rows(impl, index, forest)
    finally:
        index.close()


def _rows(impl: str, index: Index, forest: Forest) -> list[IngestRow]:
    stretches = list(forest.stretches())
    last = last_quarter(stretches)
    store = index.store(stretches)
    gc.collect()
    before = _resident_bytes()
    stores = [_blocks_per_cpu_s(store, stretches)]
    weight = (_resident_bytes() - before) / placed(stretches)
    removals: list[float] = []
    for _ in range(_ROUNDS):
        removals.append(_blocks_per_cpu_s(index.remove(last), last))
        stores.append(_blocks_per_cpu_s(index.store(last), last))
    return [
        IngestRow(impl, STORE, forest.replicas, forest.blocks, round(median(stores)), round(weight, 1)),
        IngestRow(impl, REMOVE, forest.replicas, forest.blocks, round(median(removals)), None),
    ]


def _blocks_per_cpu_s(apply: Apply, stretches: Sequence[Stretch]) -> float:
    began = time.process_time()
    apply()
    return placed(stretches) / (time.process_time() - began)


def _resident_bytes() -> int:
    """What this process has in memory; Linux tells."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
