"""Each way of measuring the directory, small, against real servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvplane.tests.bench.forest import Forest
from kvplane.tests.bench.ingest_mirror import mirror_rows, weigh
from kvplane.tests.bench.ingest_pace import heartbeat_row, routable_row
from kvplane.tests.bench.ingest_publisher import publisher_rows
from kvplane.tests.bench.scene import scene
from kvplane.tests.servers import Server

FOREST = Forest(replicas=6, blocks=4000)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as running:
        yield running


async def test_a_mirror_is_measured_storing_and_removing(server: Server) -> None:
    store, remove = await mirror_rows(server.url, FOREST)

    assert (store.op, remove.op) == ("store", "remove")
    assert 10_000 < (store.blocks_per_cpu_s or 0) < 100_000_000
    assert 10_000 < (remove.blocks_per_cpu_s or 0) < 100_000_000
    assert store.bytes_per_block == pytest.approx(weigh(FOREST), rel=0.1)


def test_a_publisher_is_measured_from_events_to_pages(server: Server) -> None:
    rows = {row.op: row for row in publisher_rows(server.url, blocks=2048, page_blocks=256)}

    assert list(rows) == ["publish", "withdraw", "append_server", "redis_page"]
    assert all((rows[op].blocks_per_cpu_s or 0) > 1000 for op in ("publish", "withdraw", "append_server"))
    assert 8 < (rows["redis_page"].bytes_per_block or 0) < 200


def test_a_fleet_at_rest_and_a_busy_one_are_measured(server: Server) -> None:
    beats = heartbeat_row(server.url, replicas=8, seconds=0.5)
    server.ask("FLUSHALL")
    routable = routable_row(server.url, seconds=0.5)

    assert 0 < (beats.core_percent or 0) < 100
    assert 0 < (routable.p50_ms or 0) <= (routable.p99_ms or 0) < 5000


def test_after_a_flush_all_is_exact_again_and_nothing_was_lost(server: Server) -> None:
    with scene(server.url, Forest(replicas=20, blocks=4000)) as here:
        server.ask("FLUSHALL")
        here.back()
        exact, watched = here.exact(), here.watched()
        seconds, another_exact = here.another()

    assert exact
    assert (watched.lost_hits, watched.failed) == (0, 0)
    assert watched.asked > 0
    assert 0 < seconds < 10
    assert another_exact
