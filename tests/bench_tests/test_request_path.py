"""The request path measured: three ways for each fleet, who waits told from who does not, and nobody refused."""

import asyncio
import io
from contextvars import Context

import pytest
from rich.console import Console

from kvplane.controlplane.accounts import BookReader, Rate, Rules, Tenant, record_of
from kvplane.controlplane.accounts.memory_accounts import MemoryAccounts
from kvplane.controlplane.gate import Gate
from kvplane.tests.bench import request_path as request_path_module
from kvplane.tests.bench import request_path_tenants
from kvplane.tests.bench.decide_fleet import Fleet
from kvplane.tests.bench.errors import BenchError
from kvplane.tests.bench.forest import BLOCK_TOKENS, Forest
from kvplane.tests.bench.request_path import Run, request_path
from kvplane.tests.bench.request_path_rows import PARTS, RequestPathRow, request_path_table, row_of
from kvplane.tests.bench.request_path_tenants import CountedBuckets, Sender, Traffic, senders
from kvplane.tests.bench.request_path_ways import Laps, Through
from kvplane.tests.stores import Clock, Store

RUN = Run(requests=100, requests_per_s=500)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_path_module, "_UNMEASURED_S", 0.1)
    monkeypatch.setattr(request_path_module, "_LASTS_S", 0.1)
    monkeypatch.setattr(request_path_tenants, "TENANTS", 100)


async def taken(*, trips: int = 0, waited: bool = False, **took_us: float) -> Laps:
    """A request that took so long in its parts, and made its round trips, or waited for another's, in `admit`."""
    laps = Laps(lambda: 0)
    laps.took_us, laps.trips, laps.waited = took_us, {"admit": trips}, {"admit": waited}
    return laps


def test_every_part_of_every_fleet_is_a_row() -> None:
    rows = request_path((8, 12), (1, 10), RUN)

    kinds = [(8, 1), (12, 1), (12, 10)]  # ten extents are too many for eight replicas
    assert [(row.replicas, row.distinct_extents, row.part) for row in rows] == [
        (*kind, part) for kind in kinds for part in (*PARTS, "tidy")
    ]
    for row in rows:
        both = (
            (row.without_p50_us or 0) <= (row.without_p99_us or 0),
            (row.limits_p50_us or 0) <= (row.limits_p99_us or 0),
        )
        assert all(both)
        assert 0 <= row.waits_per_1000 <= 1000


def test_only_tenants_with_limits_make_round_trips_and_only_for_these() -> None:
    rows = {row.part: row for row in request_path((8,), (1,), RUN)}

    assert {part for part, row in rows.items() if row.without_p50_us is None} == {
        *("caller", "admit", "scope", "budget", "appeal", "headers", "end", "tidy"),
    }
    assert {part for part in PARTS if not rows[part].round_trips_per_1000} >= {
        "caller",
        "scope",
        "decide",
        "issue",
        "headers",
    }
    assert rows["admit"].round_trips_per_1000 > 0
    assert sum(rows[part].round_trips_per_1000 for part in PARTS["whole"]) == pytest.approx(
        rows["whole"].round_trips_per_1000
    )


def test_a_request_that_is_refused_ends_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Traffic, "rules", property(lambda traffic: Rules(requests_per_minute=1)))

    with pytest.raises(BenchError, match=r"a limit refuses what it should let in: .*1 requests per minute"):
        request_path((8,), (1,), RUN)


async def test_what_has_ended_leaves_its_place_to_the_next() -> None:
    accounts, tenant = MemoryAccounts(lambda: 0.0), Tenant(organisation="acme", rules=Rules(concurrency=1))
    await accounts.put(tenant)
    await accounts.add_key(record_of("sk-acme", tenant))
    fleet, book, prompt = Fleet(8), BookReader(accounts), Forest(8, 8000).prompt(4096, 95, 1, 0)
    await book.look()
    assert prompt is not None
    async with fleet.open():
        way, sender = Through(fleet, book, Gate(accounts, "here", lambda: 1, BLOCK_TOKENS)), Sender("sk-acme", "ann")
        first = await way.place(sender, prompt)
        with pytest.raises(BenchError, match="1 requests at the same time"):
            await way.place(sender, prompt)

        await way.end(first)

        assert (await way.place(sender, prompt)).caller == book.caller("sk-acme")


async def test_what_limits_add_is_told_with_and_without_those_who_waited() -> None:
    waited = [await taken(trips=3, waited=True, admit=5000, decide=60), await taken(waited=True, admit=4000, decide=60)]
    limits = [await taken(admit=10, decide=60), await taken(admit=20, decide=60), await taken(admit=30, decide=60)]
    measured = {
        "without": [await taken(decide=50)] * 3,
        "no rules": [await taken(admit=4, decide=51)] * 3,
        "limits": (limits + waited) * 20,
    }

    row = row_of(8, 1, "whole", measured)

    assert (row.without_p50_us, row.no_rules_p50_us) == (50, 55)
    assert (row.limits_p50_us, row.limits_p99_us, row.in_hand_p50_us) == (90, 5060, 80)
    assert (row.added_p50_us, row.added_in_hand_p50_us) == (40, 30)
    assert (row.round_trips_per_1000, row.waits_per_1000) == (600, 400)


async def test_a_part_that_only_accounts_have_is_added_in_full() -> None:
    without, no_rules, limits = await taken(decide=50), await taken(admit=4), await taken(admit=9)

    row = row_of(8, 1, "admit", {"without": [without] * 3, "no rules": [no_rules] * 3, "limits": [limits] * 3})

    assert (row.without_p50_us, row.no_rules_p50_us, row.added_p50_us) == (None, 4, 9)


async def test_a_part_has_waited_once_the_loop_went_on() -> None:
    laps = Laps(lambda: 0)

    laps.lap("caller")
    await asyncio.sleep(0)
    laps.lap("admit")
    laps.lap("scope")

    assert laps.waited == {"caller": False, "admit": True, "scope": False}


def test_the_table_says_what_the_worst_fleet_adds_and_cuts_no_cell() -> None:
    rows = [
        RequestPathRow(1024, 64, "whole", 123.4, 1.0, 234.5, 1.0, 12345.6, 123456.7, 345.6, added, 222.2, 1754.0, 732.0)
        for added in (99.0, 12222.2)
    ]
    out = io.StringIO()
    Console(file=out, width=80).print(request_path_table(rows))

    cells = ["1024/64", "whole", "123", "234", "12346", "123457", "346", "12222", "222", "1754", "732"]
    assert cells in [line.split() for line in out.getvalue().splitlines()]
    assert "add 12222 us at most" in out.getvalue()


def test_a_few_tenants_send_most() -> None:
    sent = [sender.key for sender in senders(10_000)]

    most = sorted(set(sent), key=sent.count, reverse=True)[:29]
    assert 0.88 < sum(map(sent.count, most)) / len(sent) < 0.96  # by Zipf's law over a hundred tenants: 0.93


def test_no_tenants_limit_is_below_what_it_may_send() -> None:
    rules = Traffic(requests_per_s=200, tokens=4352, blocks=272, lasts_s=1.0).rules

    assert (rules.requests_per_minute, rules.tokens_per_minute) == (7680, 7680 * 4352)
    assert (rules.write_blocks_per_minute, rules.concurrency) == (7680 * 272, 256)


async def test_round_trips_are_counted_for_the_task_that_began_those_that_make_them() -> None:
    buckets, rate = CountedBuckets(Store(Clock())), Rate(1.0, 10.0)
    assert buckets.trips == 0
    async with asyncio.TaskGroup() as tasks:
        for kind in ("requests", "tokens"):
            tasks.create_task(buckets.lease(f"acme:{kind}", rate, 1, 1))

    async def give_back() -> None:
        await buckets.give_back("acme:requests", rate, 1)
        await buckets.claim("acme:places", "here", 1, 1, 10.0)

    other = asyncio.create_task(give_back(), context=Context())
    await other

    assert (buckets.trips, buckets.trips_of(other)) == (2, 2)
