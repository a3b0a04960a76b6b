"""What stands in the directory adds up alike by shard, replica, level and tenant, and mirrors tell how they do."""

import time

from kvplane.controlplane.directory_report import mirror_report, stats
from kvplane.directory import DomainTag, HolderId, Holdings, Keyring, Level, MemoryPages, Mirror, PageSize, holder_id

A, B, C = holder_id("a"), holder_id("b"), holder_id("c")
ACME, GLOBEX, STRAY = DomainTag("a" * 16), DomainTag("b" * 16), DomainTag("c" * 16)
TALLY = {
    (A, ACME, Level.GPU): 5,
    (A, ACME, Level.DISK): 2,
    (A, GLOBEX, Level.GPU): 1,
    (B, ACME, Level.GPU): 4,
    (C, STRAY, Level.CPU): 3,
}
SIZES = {A: PageSize(7, "n1:1", 100, 60, 8), B: PageSize(7, "n1:1", 10, 40, 8)}
TENANTS = {ACME: "acme/default", GLOBEX: "globex/default"}


def test_every_table_adds_up_to_the_same() -> None:
    told = stats(TALLY, [A, B], SIZES, TENANTS, [])

    assert sum(row["blocks"] for row in told["replicas"]) == 15
    assert sum(row["blocks"] for row in told["levels"]) == 15
    assert sum(row["blocks"] for row in told["tenants"]) == 15
    assert told["levels"] == [
        {"level": "gpu", "blocks": 10},
        {"level": "cpu", "blocks": 3},
        {"level": "disk", "blocks": 2},
    ]


def test_a_shard_has_the_pages_that_are_on_it() -> None:
    told = stats(TALLY, [A, B], SIZES, TENANTS, [])

    assert told["shards"] == [{"shard": 7, "node": "n1:1", "pages": 2, "blocks": 12, "bytes": 226}]


def test_a_replica_that_left_and_a_page_that_was_not_measured_are_shown_so() -> None:
    rows = {row["replica"]: row for row in stats(TALLY, [A, B], SIZES, TENANTS, [])["replicas"]}

    assert rows[A]["live"]
    assert rows[A]["bytes"] == 168
    assert not rows[C]["live"]
    assert rows[C]["bytes"] is None


def test_a_live_replica_without_a_block_is_there() -> None:
    [row] = stats({}, [A], {}, TENANTS, [])["replicas"]

    assert (row["replica"], row["blocks"]) == (A, 0)


def test_tenants_have_their_labels_and_the_largest_comes_first() -> None:
    rows = stats(TALLY, [A, B], SIZES, TENANTS, [])["tenants"]

    assert [(row["tenant"], row["blocks"], row["replicas"]) for row in rows] == [
        ("acme/default", 11, 2),
        (None, 3, 1),
        ("globex/default", 1, 1),
    ]


def test_a_mirror_names_the_pages_it_has_not_read() -> None:
    holdings = Holdings()
    mirror = Mirror(MemoryPages(), holdings, Keyring(b"m" * 32).mac_key, lambda holder, served: None, time.monotonic)
    report = mirror_report("r1", mirror, holdings, [HolderId("b"), HolderId("a")], 1 << 20)

    assert report.unread == ("a", "b")
    assert report.pages == ()
    assert report.most_bytes == 1 << 20
