"""A fair queue in virtual time, with places that a test frees one by one."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from kvplane.controlplane.fair_queue import POLL_S, FairQueue
from kvplane.controlplane.replay.virtual_time import LeapingLoop

T = TypeVar("T")
QUANTUM = 100
FAR_S = 1e9


class Places:
    """As many as a test frees."""

    def __init__(self, free: int = 0) -> None:
        self.free = free
        self.taken = self.told = 0

    def take(self) -> bool:
        if not self.free:
            return False
        self.free -= 1
        self.taken += 1
        return True

    def placed(self) -> None:
        self.told += 1


class Scene:
    """A queue in virtual time, and who was served, in order."""

    def __init__(self, max_waiting: int = 10_000) -> None:
        self.places = Places()
        self.clock = asyncio.get_running_loop().time
        self.queue = FairQueue(self.places, self.clock, max_waiting, QUANTUM)
        self.served = ""
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, tenant: str, cost: int, weight: float = 1.0, times: int = 1, wait_s: float = FAR_S) -> None:
        """Have a tenant's requests wait, one behind the other."""
        for _ in range(times):
            self.tasks.append(asyncio.create_task(self._request(tenant, cost, weight, self.clock() + wait_s)))
        await asyncio.sleep(0)

    async def free(self, places: int = 1) -> str:
        """Free places at once; who came to be served."""
        before = len(self.served)
        self.places.free += places
        await asyncio.sleep(1.01 * POLL_S)
        return self.served[before:]

    async def _request(self, tenant: str, cost: int, weight: float, deadline_s: float) -> None:
        async with self.queue.turn(tenant, weight, deadline_s) as turn:
            self.served += tenant
            turn.charge(cost)


def played(scene: Coroutine[None, None, T]) -> T:
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        return runner.run(scene)
