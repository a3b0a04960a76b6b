"""A router is gone once it was alive and is not, and never on a mere lack of knowledge."""

import asyncio
from collections.abc import Collection

import pytest
from ray.exceptions import RayError

from kvplane.workers import gone_routers
from kvplane.workers.gone_routers import GoneRouters


class Alive:
    """What Ray says, as a test sets it."""

    def __init__(self, *processes: str) -> None:
        self.processes: Collection[str] | None = processes
        self.looks = 0

    async def __call__(self) -> Collection[str]:
        self.looks += 1
        if self.processes is None:
            raise RayError("no answer")
        return self.processes


async def test_who_was_alive_and_is_not_is_gone() -> None:
    alive = Alive("r1", "r2")
    gone = GoneRouters(alive)
    await gone.look()
    alive.processes = ["r2", "r3"]
    await gone.look()

    assert "r1" in gone
    assert "r2" not in gone
    assert "r3" not in gone
    assert "stranger" not in gone


async def test_the_gone_stay_so_until_they_are_seen() -> None:
    alive = Alive("r1", "r2")
    gone = GoneRouters(alive)
    await gone.look()
    alive.processes = ["r2"]
    await gone.look()
    await gone.look()
    still = "r1" in gone
    alive.processes = ["r1", "r2"]
    await gone.look()

    assert still
    assert "r1" not in gone


async def test_while_ray_does_not_answer_nobody_goes() -> None:
    alive = Alive("r1")
    gone = GoneRouters(alive)
    await gone.look()
    alive.processes = None
    await gone.look()
    during = "r1" in gone
    alive.processes = []
    await gone.look()

    assert not during
    assert "r1" in gone


async def test_ray_is_asked_at_first_and_then_only_while_a_router_is_asked_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gone_routers, "_LOOK_S", 0.0)
    alive = Alive("r1")
    gone = GoneRouters(alive)
    running = asyncio.create_task(gone.run())
    looks = []
    for asked in (False, True, True, False):
        _ = asked and "r1" in gone
        for _ in range(10):
            await asyncio.sleep(0)
        looks.append(alive.looks)
    running.cancel()
    await asyncio.wait([running])

    assert looks == [1, 2, 3, 3]
