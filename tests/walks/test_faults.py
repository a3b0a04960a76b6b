"""What dies costs cache hits, never requests: a replica, a shard, a policy, a mirror."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from kvplane.controlplane.app import APP, build
from kvplane.controlplane.config import Settings
from kvplane.controlplane.decisions import DecisionRow
from kvplane.controlplane.local import Machine, Serving
from kvplane.tests.walks.broken import build_broken, build_mortal
from kvplane.tests.walks.waiting import all_ended, at_most, rows_once

pytestmark = pytest.mark.walk

Status = dict[str, Any]  # Any: plain values


@asynccontextmanager
async def http(serving: Serving) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {serving.keys['acme']}"}
    async with httpx.AsyncClient(base_url=serving.url, headers=headers, timeout=60) as client:
        yield client


async def ask(client: httpx.AsyncClient, prompt: str, tokens: int = 4) -> tuple[int, int]:
    """Status, and cached tokens of a good answer."""
    body = {"model": "tiny", "prompt": prompt, "max_tokens": tokens, "temperature": 0}
    response = await client.post("/completions", json=body)
    if response.status_code != 200:
        return response.status_code, 0
    return 200, response.json()["usage"]["prompt_tokens_details"]["cached_tokens"]


async def status_of(deployment: str) -> list[Any]:
    """What every process of a deployment says of itself. Any: three kinds of status."""
    handle = serve.get_deployment_handle(deployment, APP)
    return list(await asyncio.to_thread(handle.broadcast("status").results, timeout_s=20))


async def eventually(holds: Callable[[list[Any]], bool], deployment: str, patience_s: float = 60) -> list[Any]:
    """The statuses once they are as wanted; a process that is ending cannot tell its own."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            found = await status_of(deployment)
        except (RayError, RayServeException):
            found = []
        if found and holds(found):
            return found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.2)


async def in_step(patience_s: float = 60) -> None:
    """Wait until every router has every replica's page as the replica itself has it."""
    deadline = time.monotonic() + patience_s
    while True:
        held = {replica.replica: replica.blocks_held for replica in await eventually(bool, "replicas")}
        seen = [{page["replica"]: page.get("blocks") for page in router.pages} for router in await status_of("routers")]
        if all(pages == held for pages in seen):
            return
        assert time.monotonic() < deadline, (held, seen)
        await asyncio.sleep(0.2)


async def test_a_killed_replica_costs_no_request_and_gets_none(serving: Serving, settings: Settings) -> None:
    prompts = [f"{number:03d}" * 100 for number in range(40)]
    async with http(serving) as client:
        await at_most(8, [partial(ask, client, prompt) for prompt in prompts])
        victim = max(await status_of("replicas"), key=lambda replica: replica.blocks_held)
        load = asyncio.create_task(at_most(16, [partial(ask, client, prompt, 40) for prompt in prompts * 3]))
        await asyncio.sleep(0.5)
        killed_ns = time.time_ns()
        os.kill(victim.pid, signal.SIGKILL)
        statuses = [status for status, _ in await asyncio.wait_for(load, 120)]

        assert statuses.count(200) == len(statuses), statuses
        await eventually(lambda found: len(found) == 3, "replicas")
        [router] = await eventually(lambda found: len(found[0].live) == 3, "routers")
        assert victim.replica not in router.live
        later = await at_most(8, [partial(ask, client, f"{prompt}!" * 2) for prompt in prompts])

    assert [status for status, _ in later] == [200] * len(prompts)
    rows = rows_once(
        settings.decisions_file, lambda rows: all(row.finish for row in rows if row.at_ns > killed_ns + 3e9)
    )
    late = [row for row in rows if row.at_ns > killed_ns + 3e9]
    assert victim.replica not in {row.chosen for row in late} | {row.served_by for row in late}
    assert {row.served_by for row in late} == set(router.live)


async def test_a_killed_shard_costs_no_request_and_no_hit(serving: Serving) -> None:
    prompts = [f"<{number:03d}>" * 80 for number in range(12)]
    async with http(serving) as client:
        await at_most(4, [partial(ask, client, prompt) for prompt in prompts])
        await in_step()
        [registrar] = await status_of("registrar")
        for shard in registrar["shards"]:
            os.kill(shard["pid"], signal.SIGKILL)
        during = await at_most(4, [partial(ask, client, prompt) for prompt in prompts])
        await eventually(lambda found: all(shard["up"] for shard in found[0]["shards"]), "registrar")
        [router] = await eventually(lambda found: all(page["reloads"] > 0 for page in found[0].pages), "routers")
        await in_step()
        after = await at_most(4, [partial(ask, client, prompt) for prompt in prompts])

    assert all(status == 200 and cached > 0 for status, cached in during), during
    assert all(status == 200 and cached > 0 for status, cached in after), after
    assert all(page["rejected"] == 0 for page in router.pages)


async def test_a_killed_registrar_takes_its_shards_along_and_all_come_back(serving: Serving) -> None:
    prompts = [f"({number:03d})" * 80 for number in range(12)]
    async with http(serving) as client:
        await at_most(4, [partial(ask, client, prompt) for prompt in prompts])
        await in_step()
        [registrar] = await status_of("registrar")
        os.kill(registrar["pid"], signal.SIGKILL)
        during = await at_most(4, [partial(ask, client, prompt) for prompt in prompts])
        [later] = await eventually(lambda found: len(found) == 1 and found[0]["pid"] != registrar["pid"], "registrar")
        await in_step()
        after = await at_most(4, [partial(ask, client, prompt) for prompt in prompts])

    assert all(status == 200 and cached > 0 for status, cached in during), during
    assert all(status == 200 and cached > 0 for status, cached in after), after
    assert later["directory"] == registrar["directory"]


async def test_a_redeployment_under_load_costs_no_request(
    ray_machine: Machine, settings: Settings, serving: Serving
) -> None:
    fewer = settings.model_copy(update={"replicas": settings.replicas.model_copy(update={"count": 1})})
    async with http(serving) as client:
        load = asyncio.create_task(at_most(12, [partial(ask, client, f"{n:03d}" * 60, 200) for n in range(60)]))
        await asyncio.sleep(1)
        await asyncio.to_thread(serve.run, build(fewer), name=APP, route_prefix="/")
        statuses = [status for status, _ in await asyncio.wait_for(load, 120)]
        [router] = await eventually(lambda found: len(found) == 1 and len(found[0].live) == 1, "routers")

    assert statuses == [200] * 60
    assert len(router.pages) == 1


async def test_a_dead_engine_costs_no_request_and_its_replica_is_replaced(
    ray_machine: Machine, settings: Settings, tmp_path: Path
) -> None:
    mortal = settings.model_copy(update={"state": tmp_path})
    with ray_machine.serving(mortal, build_mortal(mortal)) as serving:
        async with http(serving) as client:
            before = {replica.replica for replica in await status_of("replicas")}
            await serve.get_deployment_handle("replicas", APP).break_engine.remote()
            answers = await at_most(4, [partial(ask, client, f"prompt {number}" * 9) for number in range(24)])
            after = await eventually(lambda found: len({r.replica for r in found} - before) == 1, "replicas")

    assert [status for status, _ in answers] == [200] * 24
    assert len(after) == 3


@pytest.mark.parametrize("what", ["policy", "mirror"])
async def test_a_part_that_raises_at_every_call_costs_no_request(
    ray_machine: Machine, settings: Settings, what: str, tmp_path: Path
) -> None:
    broken = settings.model_copy(update={"state": tmp_path})
    with ray_machine.serving(broken, build_broken(what, broken)) as serving:
        async with http(serving) as client:
            answers = await at_most(16, [partial(ask, client, f"prompt {number}") for number in range(200)])

    assert [status for status, _ in answers] == [200] * 200
    ended = all_ended(0) if what == "policy" else lambda rows: len(carried_out(rows)) == 200
    rows = rows_once(broken.decisions_file, ended)
    assert len(carried_out(rows)) == 200
    assert all("failed" in row.reason for row in rows)


def carried_out(rows: list[DecisionRow]) -> list[DecisionRow]:
    """A router that knows of no load is told by replicas that decline."""
    return [row for row in rows if row.finish != "declined"]
