"""Replicas and the accounts are killed under load: every answer that a client has whole is in the ledger, once."""

import asyncio
import os
import signal
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from kvplane.controlplane.config import Settings
from kvplane.controlplane.local import Machine
from kvplane.controlplane.status import fetch_status
from kvplane.directory import DirectorySettings, open_client
from kvplane.tests.walks.waiting import at_most
from kvplane.workers import RedisLedger, Usage

pytestmark = pytest.mark.walk

REQUESTS, AT_ONCE, WAIT_S = 60, 6, 90
TENANT = "acme/default"


async def test_what_clients_have_is_in_the_ledger_once_whoever_was_killed(ray_machine: Machine, tmp_path: Path) -> None:
    engine = {"engine": "simulated", "prefill_us_per_token": 50.0, "decode_ms": 20.0, "cache": str(tmp_path / "cache")}
    replicas = {"count": 2, "health_period_s": 1}
    settings = Settings.load(None, engine=engine, replicas=replicas, state=tmp_path / "state")
    with ray_machine.serving(settings) as serving:
        headers = {"authorization": f"Bearer {serving.keys['acme']}"}
        async with httpx.AsyncClient(base_url=serving.url, headers=headers, timeout=WAIT_S) as client:
            killing = asyncio.create_task(kill_some(settings.state))
            answers = await at_most(AT_ONCE, [partial(ask, client, number) for number in range(REQUESTS)])
            await killing
        whole = {answer["id"].partition("-")[2]: answer["usage"]["completion_tokens"] for answer in answers if answer}
        entries = await settled(settings.state, set(whole))

    assert len(whole) >= REQUESTS * 0.8
    for decision, completion_tokens in whole.items():
        attempts = entries[decision]
        assert [usage.attempt for usage in attempts] == sorted({usage.attempt for usage in attempts})
        assert [usage.finish in ("stop", "length") for usage in attempts].count(True) == 1
        assert sum(usage.output_tokens for usage in attempts) == completion_tokens
    ended = [usage.finish for attempts in entries.values() for usage in attempts]
    assert "interrupted" in ended


async def ask(client: httpx.AsyncClient, number: int) -> dict[str, Any]:  # Any: OpenAI's shape
    body = {"model": "simulated", "prompt": f"question number {number} " + "x" * 400, "max_tokens": 40}
    answer = await client.post("/completions", json=body)
    body = answer.json() if answer.status_code == 200 else {}
    return dict(body)


async def kill_some(state: Path) -> None:
    """One replica, then the accounts' server, then a replica again."""
    await asyncio.sleep(2)
    await kill_replica(state)
    await asyncio.sleep(2)
    await asyncio.to_thread(kill_accounts, state)
    await asyncio.sleep(3)
    await kill_replica(state)


async def kill_replica(state: Path) -> None:
    report = await asyncio.to_thread(fetch_status, state, None)
    busy = max((each for each in report["replicas"] if "pid" in each), key=lambda each: each["running_sequences"])
    os.kill(busy["pid"], signal.SIGKILL)


def kill_accounts(state: Path) -> None:
    """Whichever process runs in the accounts' folder."""
    folder, killed = str(state / "accounts" / "data"), 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(process / "cwd") == folder:
                os.kill(int(process.name), signal.SIGKILL)
                killed += 1
    assert killed == 1


async def settled(state: Path, decisions: set[str]) -> dict[str, list[Usage]]:
    """What the ledger has of these decisions, once it has all of them."""
    url = await asyncio.to_thread((state / "accounts.url").read_text)
    today = datetime.now(UTC).date()
    async with asyncio.timeout(WAIT_S), open_client(url, DirectorySettings()) as client:
        while True:
            found: dict[str, list[Usage]] = {}
            for day in (today - timedelta(days=1)).isoformat(), today.isoformat():
                async for usage in RedisLedger(client).read(TENANT, day):
                    found.setdefault(usage.decision, []).append(usage)
            ended = {key for key, attempts in found.items() if any(each.finish != "interrupted" for each in attempts)}
            if decisions <= ended:
                return {key: sorted(value, key=lambda usage: usage.attempt) for key, value in found.items()}
            await asyncio.sleep(0.5)
