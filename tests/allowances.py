"""Routers' parts of one bucket, before one store, by a clock that a test sets."""

from kvplane.controlplane.accounts import Rate
from kvplane.controlplane.allowance import Allowance
from kvplane.controlplane.breaker import Breaker
from kvplane.controlplane.tidying import tidy

from .stores import Clock, Store


class Fleet:
    """Routers before one store."""

    def __init__(self, rate: Rate, routers: int = 8) -> None:
        self.clock = Clock()
        self.store = Store(self.clock)
        self.routers = [
            Allowance("acme", rate, Breaker(self.store, self.clock), lambda: routers, self.clock)
            for _ in range(routers)
        ]

    async def tidy(self) -> None:
        await tidy(self.routers)
