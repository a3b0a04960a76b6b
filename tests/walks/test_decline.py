"""Two routers that cannot see what the other places, on a real Ray: replicas decline, and every request is answered."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest
from ray import serve

from kvplane.controlplane.app import APP
from kvplane.controlplane.config import Settings
from kvplane.controlplane.decisions import Decisions
from kvplane.controlplane.local import Machine
from kvplane.controlplane.operator import read_master
from kvplane.controlplane.status import fetch_status
from kvplane.directory import Keyring
from kvplane.workers import Declined, Sampling, Ticket

pytestmark = pytest.mark.walk

BURST = 24
REPLICAS = 2


async def test_what_a_replica_declines_is_answered_all_the_same(ray_machine: Machine, tmp_path: Path) -> None:
    settings = Settings.load(
        None,
        open=True,
        engine={"engine": "simulated", "prefill_us_per_token": 200.0, "max_sequences": 4},
        replicas={"count": REPLICAS},
        router={"count": 2},
        state=tmp_path,
    )
    with ray_machine.serving(settings) as serving:
        status = await asyncio.to_thread(fetch_status, tmp_path, None)
        sent_back = await declined(str(status["replicas"][0]["replica"]), Keyring(read_master(tmp_path)))
        async with httpx.AsyncClient(base_url=serving.url, timeout=60) as client:
            codes = [await burst(client, number) for number in range(4)]
        ended = await asyncio.to_thread(fetch_status, tmp_path, None)
    rows = Decisions(settings.decisions_file).find(last=10_000)
    declines = [row for row in rows if row.finish == "declined"]

    assert sent_back.load.total_blocks > 0
    assert codes == [[200] * BURST] * 4
    assert len(rows) - len(declines) == 4 * BURST
    assert sum(router["declines"] for router in ended["routers"]) == len(declines) > 0


async def declined(replica: str, keyring: Keyring) -> Declined:
    """Hand a replica a ticket that no load suits, as a router does."""
    ticket = Ticket("d1", "r1", 1, (replica,), "", "", time.time() + 30, 1, most_waiting_tokens=-1)
    handle = serve.get_deployment_handle("replicas", APP).options(stream=True)
    [answer] = [
        each async for each in handle.generate.remote(ticket.signed(keyring.ticket_key()), bytes(40), Sampling(4))
    ]
    assert isinstance(answer, Declined)
    return answer


async def burst(client: httpx.AsyncClient, number: int) -> list[int]:
    bodies = [
        {"model": "simulated", "prompt": f"{number} {each} " + "x" * 500, "max_tokens": 4} for each in range(BURST)
    ]
    answers = await asyncio.gather(*(client.post("/completions", json=body) for body in bodies))
    return [answer.status_code for answer in answers]
