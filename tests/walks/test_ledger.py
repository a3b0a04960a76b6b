"""Routers, replicas and the accounts are killed at random under load, and every answer that came whole is billed once.

`KVPLANE_KILLS_S` says how long, `KVPLANE_KILLS_SEED` who dies when.
"""

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from kvplane.controlplane.app import APP
from kvplane.controlplane.config import Settings
from kvplane.controlplane.local import Machine, Serving
from kvplane.directory import DirectorySettings, open_client
from kvplane.tests.walks.counted import build_counted, generated
from kvplane.workers import RedisLedger, Usage

LOAD_S = float(os.environ.get("KVPLANE_KILLS_S", "60"))
SEED = int(os.environ.get("KVPLANE_KILLS_SEED", "1"))
CLIENTS, SHORT, LONG, WAIT_S = 8, 40, 300, 60.0
FAR = 150  # tokens that take three seconds
VICTIMS = ("replicas", "routers", "accounts")
TENANT = "acme/default"

pytestmark = [pytest.mark.walk, pytest.mark.timeout(LOAD_S + 240)]


@dataclass(frozen=True)
class Came:
    """What a client has of one answer; without a finish it is not whole."""

    decision: str = ""
    finish: str | None = None
    tokens: int = 0  # those that it saw, of one that is not whole
    wanted: int = 0  # at most


async def test_what_clients_have_whole_is_in_the_ledger_once_whoever_is_killed(
    ray_machine: Machine, tmp_path: Path
) -> None:
    engine = {"engine": "simulated", "prefill_us_per_token": 50.0, "decode_ms": 20.0, "cache": str(tmp_path / "cache")}
    replicas, routers = {"count": 2, "health_period_s": 1}, {"count": 2}
    settings = Settings.load(None, engine=engine, replicas=replicas, router=routers, state=tmp_path / "state")
    with ray_machine.serving(settings, build_counted(settings)) as serving:
        until = time.monotonic() + LOAD_S
        killing = asyncio.create_task(kill_at_random(settings.state, until, random.Random(SEED)))
        loads = (load(serving, until, random.Random(SEED * 1000 + client)) for client in range(CLIENTS))
        answers = [answer for answers in await asyncio.gather(*loads) for answer in answers]
        killed = await killing
        await delivered(settings.engine.cache)
        entries = await billed(settings.state)
    whole = [answer for answer in answers if answer.finish]
    broken_off = [answer for answer in answers if not answer.finish and answer.wanted - answer.tokens > FAR]
    counts = generated(settings.engine.cache)

    assert set(killed) == set(VICTIMS)
    assert len(whole) >= LOAD_S
    assert {answer.finish for answer in whole} == {"length", "stop"}
    for answer in whole:
        check(answer, entries[answer.decision])
    for usage in (usage for attempts in entries.values() for usage in attempts):
        gave = counts[usage.of_attempt]
        assert usage.output_tokens <= gave if usage.observed else usage.output_tokens == gave, usage
    for answer in broken_off:
        assert {usage.finish for usage in entries.get(answer.decision, [])} <= {"interrupted"}, answer


def check(answer: Came, attempts: Sequence[Usage]) -> None:
    """One entry for each attempt; all but the last were interrupted, and together they gave what the client has."""
    *before, last = attempts
    assert [usage.attempt for usage in attempts] == sorted({usage.attempt for usage in attempts})
    assert [usage.finish for usage in before] == ["interrupted"] * len(before)
    assert last.finish == answer.finish
    gave = sum(usage.output_tokens for usage in attempts)
    assert gave == answer.tokens if not before and last.finish == "length" else gave >= answer.tokens, answer


async def load(serving: Serving, until: float, chance: random.Random) -> list[Came]:
    """One client, asking again and again; some answers stream, some are long, some have a stop string."""
    headers = {"authorization": f"Bearer {serving.keys['acme']}"}
    answers: list[Came] = []
    async with httpx.AsyncClient(base_url=serving.url, headers=headers, timeout=WAIT_S) as client:
        while time.monotonic() < until:
            tokens = LONG if chance.random() < 0.1 else SHORT
            body = {"model": "simulated", "prompt": f"{chance.random()} " + "x" * 400, "max_tokens": tokens}
            if chance.random() < 0.5:
                body["stop"] = chance.choice("aeiou")
            ask = streamed if chance.random() < 0.5 else at_once
            answers.append(await ask(client, body))
            if not answers[-1].finish:
                await asyncio.sleep(0.2)
    return answers


async def at_once(client: httpx.AsyncClient, body: dict[str, Any]) -> Came:  # Any: OpenAI's shapes
    with suppress(httpx.HTTPError):
        answer = await client.post("/completions", json=body)
        if answer.status_code == 200:
            whole = answer.json()
            return Came(of(whole), whole["choices"][0]["finish_reason"], whole["usage"]["completion_tokens"])
    return Came()


async def streamed(client: httpx.AsyncClient, body: dict[str, Any]) -> Came:
    came = Came(wanted=body["max_tokens"])
    with suppress(httpx.HTTPError):
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        async with client.stream("POST", "/completions", json=body) as answer:
            async for chunk in chunks(answer):
                if not chunk["choices"]:
                    return replace(came, tokens=chunk["usage"]["completion_tokens"])
                finish = chunk["choices"][0]["finish_reason"]
                came = replace(came, decision=of(chunk), finish=finish, tokens=came.tokens + 1)
    return Came() if came.finish else came  # without its usage there is nothing to compare


async def chunks(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """Those of a stream, up to where it ends or breaks off."""
    async for line in answer.aiter_lines():
        event = json.loads(line.removeprefix("data: ")) if line.startswith("data: {") else {}
        if "id" in event:
            yield event


def of(shape: dict[str, Any]) -> str:
    return str(shape["id"].partition("-")[2])


async def kill_at_random(state: Path, until: float, chance: random.Random) -> list[str]:
    """Somebody every few seconds, and everybody in turn first; who was killed."""
    killed: list[str] = []
    while (wait_s := chance.uniform(1.0, 5.0)) < until - time.monotonic():
        await asyncio.sleep(wait_s)
        victim = VICTIMS[len(killed)] if len(killed) < len(VICTIMS) else chance.choice(VICTIMS)
        pids = await asyncio.to_thread(accounts_pids, state) if victim == "accounts" else await pids_of(victim)
        if pids:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(pids), signal.SIGKILL)
                killed.append(victim)
    return killed


async def pids_of(deployment: str) -> list[int]:
    """The processes that answer."""
    broadcast = serve.get_deployment_handle(deployment, APP).broadcast("status")
    try:
        found = await asyncio.to_thread(broadcast.results, timeout_s=5, return_exceptions=True)
    except (RayError, RayServeException, TimeoutError):
        return []
    return sorted(status.pid for status in found if not isinstance(status, BaseException))


def accounts_pids(state: Path) -> list[int]:
    """Whichever process runs in the accounts' folder."""
    folder, found = str(state / "accounts" / "data"), []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(process / "cwd") == folder:
                found.append(int(process.name))
    return found


async def delivered(cache: Path) -> None:
    """Wait until nothing is kept on disk for the ledger any more."""
    async with asyncio.timeout(WAIT_S):
        while kept(cache):
            await asyncio.sleep(0.2)


def kept(cache: Path) -> list[Path]:
    return list(cache.glob("usage/*/*.usage"))


async def billed(state: Path) -> dict[str, list[Usage]]:
    """The ledger, by decision and attempt."""
    url = await asyncio.to_thread((state / "accounts.url").read_text)
    today, found = datetime.now(UTC).date(), dict[str, list[Usage]]()
    async with open_client(url, DirectorySettings()) as client:
        for day in (today - timedelta(days=1)).isoformat(), today.isoformat():
            async for usage in RedisLedger(client).read(TENANT, day):
                found.setdefault(usage.decision, []).append(usage)
    return {decision: sorted(attempts, key=lambda usage: usage.attempt) for decision, attempts in found.items()}
