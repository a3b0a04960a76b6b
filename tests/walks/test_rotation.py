"""Names and salts rotate on a real Ray: a rotation costs no hit, survives whoever dies, and a new salt hides all."""

import asyncio
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from typer import Typer
from typer.testing import CliRunner

from kvplane.controlplane.accounts.commands import tenants
from kvplane.controlplane.app import APP
from kvplane.controlplane.config import Settings
from kvplane.controlplane.directory_cli import directory
from kvplane.controlplane.local import Machine, Serving
from kvplane.directory.epochs import NameEpochs

pytestmark = pytest.mark.walk

PROMPTS = [f"[{number:02d}]" * 60 for number in range(12)]
WAIT_S = 90


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rotation")


@pytest.fixture(scope="module")
def serving(ray_machine: Machine, state: Path) -> Iterator[Serving]:
    engine = {"model": "tiny", "blocks": 1024, "max_context": 4096}
    settings = {"replicas": {"count": 3, "health_period_s": 1}, "router": {"count": 2}, "state": state}
    with ray_machine.serving(Settings.load(None, engine=engine, **settings)) as here:
        yield here


async def ask(serving: Serving, prompts: Sequence[str] = PROMPTS) -> list[int]:
    """Cached tokens of each prompt, asked one behind the other."""
    found = []
    async with httpx.AsyncClient(headers={"x-api-key": serving.keys["acme"]}, timeout=60) as client:
        for prompt in prompts:
            body = {"model": "tiny", "prompt": prompt, "max_tokens": 1, "temperature": 0}
            response = await client.post(f"{serving.url}/completions", json=body)
            assert response.status_code == 200, response.text
            found.append(response.json()["usage"]["prompt_tokens_details"]["cached_tokens"])
    return found


async def kvplane(application: Typer, state: Path, *command: str) -> str:
    """What a command says; it has a loop of its own."""
    arguments = [*command, "--state", str(state)]
    result = await asyncio.to_thread(CliRunner().invoke, application, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output.strip()


async def epochs(deployment: str, method: str, *arguments: object) -> list[object]:
    """What every process of a deployment says; nothing while one of them cannot."""
    handle = serve.get_deployment_handle(deployment, APP)
    try:
        return list(await asyncio.to_thread(handle.broadcast(method, *arguments).results, timeout_s=20))
    except (RayError, RayServeException):
        return []


async def ended(present: int, replicas: int = 3, routers: int = 2) -> None:
    """Wait until the registrar and every router know of one epoch alone; all pages are in it."""
    async with asyncio.timeout(WAIT_S):
        while (
            [NameEpochs(present)] * routers != await epochs("routers", "name_epochs")
            or [present] * replicas != await epochs("replicas", "rename", present)
            or [present] != [told["name_epoch"] for told in await epochs("registrar", "status")]  # type: ignore[index]
        ):
            await asyncio.sleep(0.2)


async def test_a_rotation_under_load_costs_no_hit(serving: Serving, state: Path) -> None:
    await ask(serving)
    before = await ask(serving)
    rotation = asyncio.create_task(kvplane(directory, state, "rotate", "--wait", str(WAIT_S)))
    during = []
    while not rotation.done():
        during.append(await ask(serving))
    said = await rotation
    await ended(1)

    assert said == "All names are of epoch 1."
    assert min(before) > 0
    assert len(during) > 3
    assert sum(map(sum, during)) >= 0.99 * len(during) * sum(before)
    assert await ask(serving) == before


async def test_a_rotation_ends_whoever_is_killed_in_the_middle_of_it(serving: Serving, state: Path) -> None:
    before = await ask(serving)
    await kvplane(directory, state, "rotate", "--wait", "0")
    for deployment in ("registrar", "replicas", "routers"):
        found = await epochs(deployment, "status")
        pid = found[0]["pid"] if isinstance(found[0], dict) else found[0].pid  # type: ignore[attr-defined]
        os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(1.0)  # one life ends after another's end was noticed, or before
    await ended(2)
    lost = await ask(serving)  # of the replica that was killed, not of the others

    assert sum(lost) > 0.3 * sum(before)
    assert await ask(serving) == before


async def test_after_a_salt_has_rotated_nothing_cached_before_is_found(serving: Serving, state: Path) -> None:
    before = await ask(serving)
    said = await kvplane(tenants, state, "rotate-salt", "acme")
    await asyncio.sleep(1.5)  # routers read accounts twice a second
    after = await ask(serving)

    assert said == "acme/default: salt epoch 1"
    assert min(before) > 0
    assert after == [0] * len(PROMPTS)
    assert await ask(serving) == before
