"""Two vLLM replicas in Serve: requests land where their prefix is, and find what was promised."""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import httpx
import pytest

from kvplane.controlplane.config import Settings
from kvplane.controlplane.decisions import DecisionRow
from kvplane.controlplane.local import Serving, free_port, machine
from kvplane.controlplane.status import fetch_status
from kvplane.tests.walks.waiting import all_ended, at_most, rows_once
from kvplane.workers.vllm_settings import VllmSettings

PATIENCE_S = 300  # for vLLM to start again
POPULAR = [1 / rank for rank in range(1, 17)]


@pytest.fixture(scope="module")
def settings(tiny: VllmSettings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        engine=tiny.model_copy(update={"max_context": 2304, "blocks": 160}),
        served_name="tiny",
        replicas={"count": 2, "num_cpus": 0.2, "health_period_s": 1},
        state=tmp_path_factory.mktemp("state"),
    )


@pytest.fixture(scope="module")
def serving(settings: Settings) -> Iterator[Serving]:
    with machine(free_port(0), cpus=2) as here, here.serving(settings) as serving:
        yield serving


class Client:
    """Two tenants' requests, eight tokens each."""

    def __init__(self, serving: Serving, http: httpx.AsyncClient) -> None:
        self._serving = serving
        self._http = http

    async def complete(self, tokens: Sequence[int], tenant: str = "acme", leaves: bool = False) -> float:
        """The seconds to the first token. Whoever leaves hears no more than that."""
        body = {"model": "tiny", "prompt": tokens, "max_tokens": 200 if leaves else 8, "temperature": 0, "stream": True}
        headers = {"authorization": f"Bearer {self._serving.keys[tenant]}"}
        began, first = time.perf_counter(), None
        url = f"{self._serving.url}/completions"
        async with self._http.stream("POST", url, json=body, headers=headers, timeout=120) as response:
            assert response.status_code == 200, await response.aread()
            async for line in response.aiter_lines():
                if first is None and line.startswith("data: {"):
                    first = time.perf_counter() - began
                    if leaves:
                        break
        assert first is not None
        return first


@pytest.fixture
async def client(serving: Serving) -> AsyncIterator[Client]:
    async with httpx.AsyncClient() as http:
        yield Client(serving, http)


def prompt(seed: int, tokens: int) -> list[int]:
    """No two seeds' begin alike; of one seed the shorter is the longer one's beginning."""
    return random.Random(seed).choices(range(3, 259), k=tokens)


def mixed(chance: random.Random, client: Client, count: int) -> list[Callable[[], Awaitable[float]]]:
    """Prompts of two tenants, some popular, all together thrice what the caches hold; one in ten leaves."""
    return [
        partial(
            client.complete,
            prompt(1000 + chance.choices(range(len(POPULAR)), POPULAR)[0], chance.choice((300, 600, 900))),
            chance.choice(("acme", "globex")),
            leaves=chance.random() < 0.1,
        )
        for _ in range(count)
    ]


def told(settings: Settings, count: int) -> list[DecisionRow]:
    """The last decisions, once all have ended."""
    before = len(rows_once(settings.decisions_file, lambda rows: all(row.finish for row in rows)))
    assert before >= count
    return rows_once(settings.decisions_file, all_ended(before))[:count]


def kept(rows: Sequence[DecisionRow]) -> float:
    """Of the tokens that were promised, the share that was found."""
    promised = sum(row.predicted_cached_tokens for row in rows)
    return sum(min(row.predicted_cached_tokens, row.actual_cached_tokens or 0) for row in rows) / promised


def up(settings: Settings) -> dict[str, int]:
    """The replicas that serve, and their processes."""
    return {row["replica"]: row["pid"] for row in fetch_status(settings.state, None)["replicas"] if "pid" in row}


def family(pid: int) -> set[int]:
    """A process and all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {pid}.union(*(family(int(child)) for child in children))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.2)


async def test_a_repeated_prompt_lands_on_its_holder_and_finds_what_was_promised(
    client: Client, settings: Settings
) -> None:
    for _ in range(4):
        for seed in range(4):
            await client.complete(prompt(seed, 500))
    rows = told(settings, 16)[::-1]

    assert [row.predicted_cached_tokens for row in rows] == [row.actual_cached_tokens for row in rows]
    assert [row.actual_cached_tokens for row in rows] == [0] * 4 + [480] * 12
    assert all(len({row.served_by or row.chosen for row in rows[seed::4]}) == 1 for seed in range(4))
    assert {row.chosen for row in rows} == set(up(settings))


async def test_another_tenant_shares_nothing(client: Client, settings: Settings) -> None:
    for tenant in ("acme", "acme", "globex", "globex"):
        await client.complete(prompt(5, 500), tenant)

    assert [row.actual_cached_tokens for row in told(settings, 4)[::-1]] == [0, 480, 0, 480]


async def test_a_hit_has_its_first_token_four_times_sooner(client: Client, settings: Settings) -> None:
    cold = [await client.complete(prompt(seed, 2048)) for seed in range(10, 15)]
    hits = [await client.complete(prompt(14, 2048)) for _ in range(5)]

    assert [row.actual_cached_tokens for row in told(settings, 10)[::-1]] == [0] * 5 + [2016] * 5
    print(f"TTFT at 2048 tokens: cold {median(cold) * 1e3:.0f} ms, hit {median(hits) * 1e3:.0f} ms")
    assert median(hits) * 4 < median(cold)


async def test_promises_hold_through_eviction_duplicates_clients_that_leave_and_a_replicas_end(
    client: Client, settings: Settings
) -> None:
    chance = random.Random(7)
    await at_most(2, mixed(chance, client, 100))
    before = up(settings)
    [ended, pid], *_ = before.items()
    processes = family(pid)
    os.kill(pid, signal.SIGKILL)
    print(f"killed {ended[:4]} at {time.time():.3f}")
    await at_most(2, mixed(chance, client, 100))
    await until(lambda: len(up(settings)) == 2 and ended not in up(settings))
    await at_most(2, mixed(chance, client, 100))
    rows = told(settings, 300)

    actual = [row.actual_cached_tokens or 0 for row in rows]
    exact = sum(row.predicted_cached_tokens == found for row, found in zip(rows, actual, strict=True))
    promised = sum(row.predicted_cached_tokens for row in rows)
    print(f"kept {kept(rows):.2%} of {promised} tokens, found {sum(actual)}; {exact} of 300 exact")
    assert kept(rows) >= 0.99
    assert exact >= 297
    assert {row.finish for row in rows} == {"length", "cancelled"}
    assert not any(map(runs, processes))


def runs(process: int) -> bool:
    return Path(f"/proc/{process}").exists()
