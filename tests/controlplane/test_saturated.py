"""Routers, their queues and their room before a fleet in virtual time that has less than is asked for."""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from kvplane.controlplane.fair_queue import FairQueue
from kvplane.controlplane.lines import Lines
from kvplane.controlplane.replay.virtual_time import LeapingLoop
from kvplane.controlplane.room import SPARE, Room
from kvplane.controlplane.roster import Roster
from kvplane.directory import HolderId, Load, Overlay
from kvplane.tests.told_pages import PROMPT, Told, row
from kvplane.workers import Ticket

NAMES = tuple("abcdefgh")
BATCH = 8
LAG_S = 0.002


@dataclass(eq=False)
class Replica:
    """Prompts are computed one after the other, answers side by side; its page says so a little late."""

    name: str
    mirrors: Sequence[Told]
    tokens_per_s: float
    queued: deque[tuple[int, asyncio.Event]] = field(default_factory=deque)
    running: int = 0
    prefilling: int = 0
    counted: dict[str, int] = field(default_factory=dict)
    most_queued: int = 0
    computed_s: float = 0.0

    async def serve(self, router: str, number: int, tokens: int, decode_s: float) -> None:
        self.counted[router] = max(number, self.counted.get(router, 0))
        computed = asyncio.Event()
        self.queued.append((tokens, computed))
        self._start()
        self.most_queued = max(self.most_queued, len(self.queued))
        await computed.wait()
        await asyncio.sleep(decode_s)
        self.running -= 1
        self._start()
        self._publish()

    def _start(self) -> None:
        if self.queued and self.running < BATCH and not self.prefilling:
            tokens, computed = self.queued.popleft()
            self.running, self.prefilling = self.running + 1, 1
            self.computed_s += tokens / self.tokens_per_s
            asyncio.get_running_loop().call_later(tokens / self.tokens_per_s, self._computed, computed)

    def _computed(self, computed: asyncio.Event) -> None:
        self.prefilling = 0
        computed.set()
        self._start()
        self._publish()

    def _publish(self) -> None:
        load = Load(
            running_sequences=self.running,
            waiting_sequences=self.prefilling + len(self.queued),
            counted=dict(self.counted),
        )
        for mirror in self.mirrors:
            asyncio.get_running_loop().call_later(LAG_S, mirror.say, self.name, load)


class Fleet:
    """Eight replicas and some routers, all real but for replicas, pages and policy."""

    def __init__(self, routers: int, tokens_per_s: float, decode_s: float) -> None:
        self.clock = asyncio.get_running_loop().time
        self.decode_s = decode_s
        self.routers = [f"r{number}" for number in range(routers)]
        self.roster = Roster()
        self.roster.update(NAMES)
        self.mirrors = [Told(self.clock) for _ in self.routers]
        self.replicas = {name: Replica(name, self.mirrors, tokens_per_s) for name in NAMES}
        self.overlays = [Overlay(router, self.clock) for router in self.routers]
        self.rooms = [
            Room(router, routers, mirror, overlay, self.roster, lambda: BATCH + SPARE, self.clock)
            for router, mirror, overlay in zip(self.routers, self.mirrors, self.overlays, strict=True)
        ]
        self.queues = [FairQueue(room, self.clock) for room in self.rooms]
        self.lines = [Lines(room) for room in self.rooms]
        self.charged: Counter[tuple[str, int]] = Counter()
        self.longest_s = 0.0
        for replica in self.replicas.values():
            replica._publish()

    async def client(self, router: int, tenant: str, weight: float, costs: random.Random) -> None:
        """Ask, without end, as soon as there is an answer."""
        queue, overlay = self.queues[router], self.overlays[router]
        while True:
            async with queue.turn(tenant, weight, self.clock() + 1000) as turn:
                tokens = costs.randrange(500, 2000)
                turn.charge(tokens)
                self.charged[tenant, router] += tokens
                where = self.choose(router)
                number = overlay.issue(HolderId(where), tokens, 1, PROMPT)
                await self.lines[router].stand(Ticket("", self.routers[router], number, (where,), "", "", 0.0, 1))
                decode_s = costs.uniform(0.5, 1.5) * self.decode_s
                await self.replicas[where].serve(self.routers[router], number, tokens, decode_s)
                overlay.settle(number)

    def choose(self, router: int) -> str:
        overlay, mirror = self.overlays[router], self.mirrors[router]
        rows = [row(name, mirror, overlay) for name in NAMES]
        return min(rows, key=lambda row: (row.waiting_sequences, row.ongoing)).replica

    def begin_counting(self) -> None:
        self.charged.clear()
        for replica in self.replicas.values():
            replica.most_queued, replica.computed_s = 0, 0.0

    def tokens(self, tenant: str) -> int:
        return sum(tokens for (who, _), tokens in self.charged.items() if who == tenant)


@pytest.mark.parametrize("routers", [1, 4])
@pytest.mark.parametrize("tokens_per_s, decode_s", [(10_000, 0.2), (100_000, 1.0)], ids=["prefill", "decode"])
def test_two_tenants_get_their_weights_by_tokens_and_replicas_are_busy_with_next_to_no_queue(
    routers: int, tokens_per_s: float, decode_s: float
) -> None:
    async def run() -> tuple[float, float, int]:
        fleet, costs = Fleet(routers, tokens_per_s, decode_s), random.Random(1)
        await asyncio.sleep(2 * LAG_S)
        tenants = [("heavy", 4.0), ("light", 1.0)] * (200 // routers)
        jobs = [(router, *tenant) for tenant in tenants for router in range(routers)]
        tasks = [asyncio.create_task(fleet.client(*job, costs)) for job in jobs]
        await asyncio.sleep(4)
        fleet.begin_counting()
        running = 0.0
        for _ in range(100):
            await asyncio.sleep(0.1)
            running += sum(replica.running for replica in fleet.replicas.values()) / (100 * len(NAMES) * BATCH)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        computing = sum(replica.computed_s for replica in fleet.replicas.values()) / (10 * len(NAMES))
        queued = max(replica.most_queued for replica in fleet.replicas.values())
        return fleet.tokens("heavy") / fleet.tokens("light"), max(running, computing), queued

    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        ratio, busy, queued = runner.run(run())

    assert ratio == pytest.approx(4.0, rel=0.05)
    assert busy > 0.97
    assert queued < 3
