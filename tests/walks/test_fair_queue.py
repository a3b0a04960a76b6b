"""Two tenants that both want all there is, on a real Ray: they take turns by weight, and nothing waits elsewhere."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import httpx
import pytest
import yaml

from kvplane.controlplane.config import Settings
from kvplane.controlplane.decision_row import DecisionRow
from kvplane.controlplane.decisions import Decisions
from kvplane.controlplane.fair_queue import QUANTUM_TOKENS
from kvplane.controlplane.local import Machine
from kvplane.tests.walks.watched import build_watched, most_held

pytestmark = pytest.mark.walk

BATCH, GUESTS = 4, 6
CLIENTS = {"heavy": 80, "light": 48}  # so that both always wait, at each of four routers
FILLING_S, WAIT_S = 2.5, 60
TENANTS = ["heavy", "light", *(f"guest{number}" for number in range(GUESTS))]
ROWS = [{"organisation": name, "keys": [f"sk-{name}-0123456789"]} for name in TENANTS]
ROWS[0]["rules"] = {"weight": 4}  # type: ignore[assignment]  # a row is what YAML has


@pytest.mark.parametrize("routers, seconds", [(1, 6.0), (4, 11.0)])
async def test_saturated_tenants_take_turns_by_weight(
    routers: int, seconds: float, ray_machine: Machine, tmp_path: Path
) -> None:
    (tmp_path / "tenants.yaml").write_text(yaml.safe_dump({"tenants": ROWS}))
    settings = Settings.load(
        None,
        engine={"engine": "simulated", "prefill_us_per_token": 400.0, "max_sequences": BATCH, "cache": str(tmp_path)},
        replicas={"count": 2},
        router={"count": routers},
        state=tmp_path,
    )
    with ray_machine.serving(settings, build_watched(settings)) as serving:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=serving.url, timeout=WAIT_S, limits=limits) as client:
            began, until = time.time() + FILLING_S, time.time() + FILLING_S + seconds
            async with asyncio.TaskGroup() as tasks:
                for name, clients in CLIENTS.items():
                    for number in range(clients):
                        tasks.create_task(ask_on(client, name, number, until))
                asked = [tasks.create_task(visit(client, guest, began, seconds)) for guest in range(GUESTS)]
    rows = [row for row in Decisions(settings.decisions_file).find(last=100_000) if row.finish != "declined"]
    waits = [waited_tokens(rows, guest, task.result()) for guest, task in enumerate(asked)]

    assert ratio([row for row in rows if began < row.at_ns / 1e9 < until]) == pytest.approx(4.0, rel=0.05)
    assert most_held(tmp_path) - BATCH < 3
    assert median(waits) < QUANTUM_TOKENS


async def ask_on(client: httpx.AsyncClient, name: str, number: int, until: float) -> None:
    """Ask for one after another, each prompt of some 110 tokens of its own."""
    turn = 0
    while time.time() < until:
        await ask(client, name, f"{number} {turn}")
        turn += 1


async def visit(client: httpx.AsyncClient, guest: int, began: float, seconds: float) -> float:
    """Ask once, in the midst of it all; gives when."""
    await asyncio.sleep(began + seconds * (guest + 1) / (GUESTS + 2) - time.time())
    at = time.time()
    await ask(client, f"guest{guest}", "")
    return at


async def ask(client: httpx.AsyncClient, name: str, what: str) -> None:
    body = {"model": "simulated", "prompt": f"{name} {what} " + "x" * 100, "max_tokens": 4}
    headers = {"authorization": f"Bearer sk-{name}-0123456789"}
    answer = await client.post("/completions", json=body, headers=headers)
    assert answer.status_code == 200, answer.text


def ratio(rows: Sequence[DecisionRow]) -> float:
    """Uncached tokens of the heavy to those of the light, in whole rounds at each router."""
    heavy = light = 0
    for router in {row.router for row in rows}:
        own = sorted((row for row in rows if row.router == router), key=lambda row: row.at_ns)
        names = [row.tenant.partition("/")[0] for row in own]
        rounds = [at for at in range(1, len(own)) if (names[at - 1], names[at]) == ("heavy", "light")]
        whole = range(rounds[0], rounds[-1])
        heavy += uncached([own[at] for at in whole if names[at] == "heavy"])
        light += uncached([own[at] for at in whole if names[at] == "light"])
    return heavy / light


def waited_tokens(rows: Sequence[DecisionRow], guest: int, asked_at: float) -> int:
    """What its router gave to others from when a guest asked, some way from the router, until its turn."""
    [own] = [row for row in rows if row.tenant == f"guest{guest}/default"]
    return uncached([row for row in rows if row.router == own.router and asked_at < row.at_ns / 1e9 < own.at_ns / 1e9])


def uncached(rows: Sequence[DecisionRow]) -> int:
    return sum(row.prompt_tokens - row.predicted_cached_tokens for row in rows)
