"""Rows of the directory's benchmarks, as JSON and as tables."""

import io

import msgspec
import pytest
from rich.console import Console
from rich.table import Table

from kvplane.tests.bench import peers
from kvplane.tests.bench.ingest_rows import IngestRow, ingest_table
from kvplane.tests.bench.lookup_rows import LookupRow, lookup_table
from kvplane.tests.bench.recover_rows import RecoverRow, recover_table


def printed(table: Table, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue()


def look(impl: str, cpu_us: float, tokens: int = 4096) -> LookupRow:
    return LookupRow(impl, 256, 1_000_000, tokens, 95, 8, cpu_us)


def test_json_rows_have_the_agreed_names() -> None:
    lookup, recover = look("kvplane_best8", 40.0), RecoverRow("new_mirror", 0.5, True, 0, 0, 100)

    assert list(msgspec.to_builtins(lookup)) == [
        *("impl", "replicas", "blocks", "tokens", "cached_percent", "distinct_extents", "cpu_us"),
    ]
    assert list(msgspec.to_builtins(IngestRow("kvplane", "store", 256, 1_000_000, 2e6, None))) == [
        *("impl", "op", "replicas", "blocks", "blocks_per_cpu_s", "bytes_per_block"),
    ]
    assert list(msgspec.to_builtins(recover)) == [
        *("event", "seconds", "exact", "failed_requests", "lost_hits", "requests"),
    ]


def test_a_look_up_is_compared_with_our_eight_best_of_the_same_workload() -> None:
    rows = [look("kvplane_best8", 40), look("dynamo_radixtree", 80), look("dynamo_radixtree", 500, tokens=32768)]

    lines = printed(lookup_table(rows)).splitlines()
    assert [line.split()[-1] for line in lines if "dynamo" in line] == ["2.0", "500.0"]


def test_a_peers_rate_is_compared_with_ours_at_the_same_work() -> None:
    ours, peer = IngestRow("kvplane", "store", 8, 1000, 3e6, 20.0), IngestRow("peer", "store", 8, 1000, 1.5e6, 60.0)
    elsewhere = IngestRow("peer", "store", 64, 1000, 1.5e6, 60.0)

    text = printed(ingest_table([ours, peer, elsewhere]))

    assert "3.00M/CPU s, 20.0 B/block" in text
    assert text.count("ours 2.0x") == 1


def test_what_is_no_rate_is_shown_in_its_own_unit() -> None:
    beats = IngestRow("kvplane", "heartbeat", 1024, 0, None, None, core_percent=4.25)
    routable = IngestRow("kvplane", "routable", 16, 160_000, None, None, p50_ms=1.5, p99_ms=9.0)

    text = printed(ingest_table([beats, routable]), width=100)

    assert "4.2% of a core" in text
    assert "p50 1.50 ms, p99 9.00 ms" in text


def test_an_inexact_recovery_stands_out() -> None:
    text = printed(recover_table([RecoverRow("new_mirror", 0.5, False, 0, 0, 100)]))

    assert "NO" in text


@pytest.mark.parametrize("installed", [True, False])
def test_a_table_without_peers_says_how_to_have_them(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "have_peers", lambda: installed)

    assert ("kvplane[bench]" in printed(lookup_table([look("kvplane_best8", 40)]))) is not installed


def test_no_cell_is_cut_on_a_terminal_of_eighty_columns() -> None:
    row = LookupRow("dynamo_selection_service", 1024, 10_000_000, 131072, 95, 64, 16123.4)

    text = printed(lookup_table([LookupRow("kvplane_best8", 1024, 10_000_000, 131072, 95, 64, 110.1), row]))
    cells = ["1024", "10M", "128k", "95%", "64", "dynamo_selection_service", "16123", "146.4"]
    assert cells in [line.split() for line in text.splitlines()]
