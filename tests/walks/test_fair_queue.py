"""Two tenants that both want all there is, on a real Ray: they take turns by weight, and nothing waits elsewhere."""

import asyncio
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
import yaml

from kvplane.controlplane.config import Settings
from kvplane.controlplane.decisions import Decisions
from kvplane.controlplane.local import Machine
from kvplane.controlplane.status import fetch_status

pytestmark = pytest.mark.walk

SECONDS, CLIENTS, WAIT_S = 12.0, 24, 60
ROWS = [
    {"organisation": "heavy", "keys": ["sk-heavy-0123456789"], "rules": {"weight": 4}},
    {"organisation": "light", "keys": ["sk-light-0123456789"]},
]


async def test_saturated_tenants_take_turns_by_weight(ray_machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "tenants.yaml").write_text(yaml.safe_dump({"tenants": ROWS}))
    settings = Settings.load(
        None,
        engine={"engine": "simulated", "prefill_us_per_token": 100.0, "decode_ms": 20.0, "max_sequences": 4},
        replicas={"count": 2},
        router={"fair_queue": True},
        state=tmp_path,
    )
    done: Counter[str] = Counter()
    waiting: list[int] = []
    with ray_machine.serving(settings) as serving:
        async with httpx.AsyncClient(base_url=serving.url, timeout=WAIT_S) as client, asyncio.TaskGroup() as tasks:
            until = time.monotonic() + SECONDS
            for name in ("heavy", "light"):
                for number in range(CLIENTS):
                    tasks.create_task(ask_on(client, name, number, until, done))
            while time.monotonic() < until:
                await asyncio.sleep(1)
                status = await asyncio.to_thread(fetch_status, tmp_path, None)
                waiting += [replica["waiting_prefill_tokens"] for replica in status["replicas"]]
    rows = Decisions(settings.decisions_file).find(last=10_000)

    assert done["failed"] == 0
    assert done["light"] > 10  # it is not starved
    assert 3.0 < done["heavy"] / done["light"] < 5.0
    assert max(waiting) < 4 * 700  # a few prompts, where 48 clients wait
    assert len({row.chosen for row in rows}) == 2


async def ask_on(client: httpx.AsyncClient, name: str, number: int, until: float, done: Counter[str]) -> None:
    """Ask for one after another, each prompt of some 600 tokens of its own; what ends in time is counted."""
    headers = {"authorization": f"Bearer sk-{name}-0123456789"}
    turn = 0
    while time.monotonic() < until:
        prompt = f"{name} {number} {turn} " + "x" * 600
        body = {"model": "simulated", "prompt": prompt, "max_tokens": 8}
        answer = await client.post("/completions", json=body, headers=headers)
        turn += 1
        if time.monotonic() < until:
            done[name if answer.status_code == 200 else "failed"] += 1
