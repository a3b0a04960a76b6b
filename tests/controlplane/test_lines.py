"""Lines in virtual time, before doors that a test opens."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import suppress

import pytest

from kvplane.controlplane.errors import Overloaded
from kvplane.controlplane.lines import POLL_S, LinedWire, Lines
from kvplane.directory import HolderId
from kvplane.tests.turns import played
from kvplane.workers import Delta, Sampling, Ticket


class Doors:
    """As much room as a test gives; what was sent takes it."""

    def __init__(self) -> None:
        self.rooms = Counter[str]()
        self.is_idle = False
        self.held: list[tuple[str, int]] = []  # as it was asked

    def admits(self, holder: HolderId, held: int) -> bool:
        self.held.append((holder, held))
        admits = self.rooms[holder] > 0
        self.rooms[holder] -= admits
        return admits

    def idle(self, held: int) -> bool:
        return self.is_idle


class Scene:
    """Requests that stand in line, and which were sent, in order."""

    def __init__(self, max_waiting: int = 100) -> None:
        self.doors = Doors()
        self.lines = Lines(self.doors, max_waiting)
        self.wire = LinedWire(self._send, self.lines)
        self.sent = ""

    async def ask(self, *tickets: Ticket) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self._request(ticket)) for ticket in tickets]
        await asyncio.sleep(0)
        return tasks

    async def later(self) -> str:
        """Who has been sent a moment later."""
        await asyncio.sleep(1.01 * POLL_S)
        return self.sent

    async def _request(self, ticket: Ticket) -> None:
        async for _ in self.wire(ticket, b"", Sampling(1)):
            pass

    async def _send(self, ticket: Ticket, words: bytes, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        self.sent += ticket.id
        yield Delta((1,), 0, 0.0, 0.0, "length")


def ticket(id: str, *ranks: str, attempt: int = 0) -> Ticket:
    return Ticket(id, "r0", 1, ranks, "", "", 0.0, 1, attempt=attempt)


def test_a_request_goes_at_once_where_there_is_room_and_waits_where_there_is_none() -> None:
    async def scenes() -> tuple[str, int, str, int]:
        scene = Scene()
        scene.doors.rooms["a"] = 1
        await scene.ask(ticket("1", "a", "b"), ticket("2", "a", "b"))
        first = scene.sent, scene.lines.waiting
        scene.doors.rooms["a"] = 1
        return *first, await scene.later(), scene.lines.waiting

    assert played(scenes()) == ("1", 1, "12", 0)


def test_each_replica_has_a_line_where_the_first_to_come_goes_first() -> None:
    async def scenes() -> tuple[str, str]:
        scene = Scene()
        await scene.ask(*(ticket(id, replica) for id, replica in zip("12345", "aabab", strict=True)))
        scene.doors.rooms["b"] = 1
        first = await scene.later()
        scene.doors.rooms.update(a=2, b=1)
        return first, await scene.later()

    assert played(scenes()) == ("3", "3125")


def test_nobody_passes_those_that_stand_in_line() -> None:
    async def scenes() -> str:
        scene = Scene()
        await scene.ask(ticket("1", "a"))
        scene.doors.rooms["a"] = 1
        await scene.ask(ticket("2", "a"))
        return await scene.later()

    assert played(scenes()) == "1"


def test_doors_are_told_how_many_are_held_for_a_replica() -> None:
    async def scenes() -> list[tuple[str, int]]:
        scene = Scene()
        await scene.ask(ticket("1", "a"), ticket("2", "a"), ticket("3", "b"))
        scene.doors.held.clear()
        scene.doors.rooms["a"] = 1
        await scene.later()
        return scene.doors.held

    assert played(scenes()) == [("a", 2), ("a", 1), ("b", 1)]


def test_where_a_router_has_nothing_in_flight_one_goes_however_full_all_are() -> None:
    async def scenes() -> str:
        scene = Scene()
        await scene.ask(ticket("1", "a"), ticket("2", "a"), ticket("3", "b"))
        scene.doors.is_idle = True
        return await scene.later()

    assert played(scenes()) == "1"


def test_who_leaves_the_line_makes_room_in_it_and_is_not_sent() -> None:
    async def scenes() -> tuple[int, str, int]:
        scene = Scene()
        first, *_ = await scene.ask(ticket("1", "a"), ticket("2", "a"))
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        waiting = scene.lines.waiting
        scene.doors.rooms["a"] = 1
        return waiting, await scene.later(), scene.lines.waiting

    assert played(scenes()) == (1, "2", 0)


def test_more_than_may_wait_are_turned_away() -> None:
    async def scenes() -> int:
        scene = Scene(max_waiting=2)
        *_, third = await scene.ask(ticket("1", "a"), ticket("2", "b"), ticket("3", "a"))
        with pytest.raises(Overloaded, match="2 requests wait"):
            await third
        return scene.lines.waiting

    assert played(scenes()) == 2


def test_further_attempts_and_what_ray_places_do_not_stand_in_line() -> None:
    async def scenes() -> str:
        scene = Scene()
        await scene.ask(ticket("1"), ticket("2", "a", attempt=1))
        return scene.sent

    assert played(scenes()) == "12"
