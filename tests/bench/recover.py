"""The recover benchmark: each fault struck, and how long until all is as before."""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kvplane.tests.clusters import Cluster, is_primary
from kvplane.tests.servers import eventually

from .child import in_child
from .errors import BenchError
from .forest import Forest
from .recover_replica import kill_replica
from .recover_rows import RecoverRow
from .scene import Scene, scene

NEW_MIRROR, FLUSHED, MASTER, GONE = "new_mirror", "flushed_shard", "killed_master", "redis_gone"


def recover(replicas: int, blocks: int, gone_s: float) -> list[RecoverRow]:
    """All faults; `gone_s` is how long there is no Redis at all. Raises `BenchError`."""
    try:
        rows = _redis_faults(Forest(replicas, blocks), gone_s)
    except TimeoutError as exc:
        raise BenchError(f"Redis did not do as it was told: {exc}") from exc
    _note("killed_replica")
    return [*rows, in_child(kill_replica)]


def _redis_faults(forest: Forest, gone_s: float) -> list[RecoverRow]:
    _note(f"{forest.replicas} replicas publish {forest.blocks} placed blocks")
    with (
        tempfile.TemporaryDirectory(prefix="kvplane-bench-") as folder,
        Cluster(Path(folder)) as redis,
        scene(redis.url, forest) as here,
    ):
        rows = [_new_mirror(here)]
        for event, strike in _strikes(redis, gone_s).items():
            _note(event)
            rows.append(_struck(here, event, strike))
    return rows


def _strikes(redis: Cluster, gone_s: float) -> dict[str, Callable[[], float]]:
    return {
        FLUSHED: lambda: _flush(redis),
        MASTER: lambda: _kill_master(redis),
        GONE: lambda: _take_away(redis, gone_s),
    }


def _new_mirror(here: Scene) -> RecoverRow:
    _note(NEW_MIRROR)
    seconds, exact = here.another()
    watched = here.watched()
    return RecoverRow(NEW_MIRROR, round(seconds, 2), exact, watched.failed, watched.lost_hits, watched.asked)


def _struck(here: Scene, event: str, strike: Callable[[], float]) -> RecoverRow:
    here.watched()
    began_s = strike()
    seconds = here.back() - began_s
    exact = here.exact()
    watched = here.watched()
    return RecoverRow(event, round(seconds, 2), exact, watched.failed, watched.lost_hits, watched.asked)


def _flush(redis: Cluster) -> float:
    redis.nodes[0].ask("FLUSHALL")
    return time.monotonic()


def _kill_master(redis: Cluster) -> float:
    """The seconds count from when its replica has taken over."""
    master = redis.nodes[1]
    replica = redis.replica_of(master)
    master.kill()
    eventually(lambda: is_primary(replica))
    return time.monotonic()


def _take_away(redis: Cluster, gone_s: float) -> float:
    """The seconds count from when every server answers again."""
    for node in redis.nodes:
        node.kill()
    time.sleep(gone_s)
    for node in redis.nodes:
        node.start()
    return time.monotonic()


def _note(what: str) -> None:
    print(f"{what} ...", file=sys.stderr, flush=True)
