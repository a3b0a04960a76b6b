"""What routers do at the accounts store between requests: for all of their parts of limits, many at a time."""

import asyncio
from collections.abc import Iterable
from typing import Protocol

_AT_ONCE = 32  # of the connections to the store, some stay free for requests


class Part(Protocol):
    """A router's part of one limit."""

    def take_stock(self) -> bool:
        """Note what was used; whether there is anything to put right."""
        ...

    async def put_right(self) -> None:
        """Ask the accounts store for more before it is wanted, or give back what lies idle."""
        ...


async def tidy(parts: Iterable[Part]) -> None:
    """Put right what has to be; to be called a few times a second."""
    untidy = [part for part in parts if part.take_stock()]
    async with asyncio.TaskGroup() as tasks:
        for first in range(min(_AT_ONCE, len(untidy))):
            tasks.create_task(_put_right(untidy[first::_AT_ONCE]))


async def _put_right(parts: Iterable[Part]) -> None:
    for part in parts:
        await part.put_right()
