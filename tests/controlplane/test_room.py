"""Room is shared without a word between routers."""

import pytest

from kvplane.controlplane.at_work import AtWork
from kvplane.controlplane.room import Room
from kvplane.controlplane.roster import Roster
from kvplane.directory import HolderId, Load, Overlay
from kvplane.tests.told_pages import PROMPT, Told


class Scene:
    """One router's room at some replicas, of ten slots each; time is a number."""

    def __init__(self, replicas: str = "a", router: str = "r0", routers: int = 1, least: int = 0) -> None:
        self.now_s = 100.0
        self.mirror, self.overlay, self.roster = Told(lambda: self.now_s), Overlay(router, lambda: self.now_s), Roster()
        self.roster.update(replicas)
        clock, slots = lambda: self.now_s, lambda: 10
        self.room = Room(router, routers, self.mirror, self.overlay, self.roster, slots, clock, least)

    def say(self, replica: str, running: int, waiting: int, **counted: int) -> None:
        self.mirror.say(replica, Load(running_sequences=running, waiting_sequences=waiting, counted=counted))

    def send(self, replica: str, tokens: int = 1000) -> int:
        return self.overlay.issue(HolderId(replica), tokens, 1, PROMPT)

    def free(self) -> int:
        """How many can be taken a moment later; all are given back."""
        self.now_s += 0.01
        taken = 0
        while self.room.take():
            taken += 1
        for _ in range(taken):
            self.room.placed()
        return taken


def test_a_replica_is_sent_requests_until_two_lack_their_first_token() -> None:
    scene = Scene()
    free = []
    ticket = scene.send("a")
    for waiting in (0, 1, 2, 3):
        scene.say("a", 4, waiting, r0=ticket)
        free.append(scene.free())

    assert free == [2, 1, 0, 0]


def test_short_prompts_are_sent_until_they_make_up_some_steps_or_the_slots_are_full() -> None:
    scene = Scene()
    scene.say("a", 1, 0)
    scene.send("a", tokens=500)
    first = scene.free()
    for _ in range(7):
        ticket = scene.send("a", tokens=500)
    scene.say("a", 8, 1, r0=ticket)

    # 2048 / 500 is four requests, one of which is on its way; then two slots are left, and one may start already.
    assert (first, scene.free()) == (3, 1)


def test_what_was_sent_counts_until_a_page_does_and_what_ends_makes_room_once_a_page_says_so() -> None:
    scene = Scene()
    scene.say("a", 4, 0)
    scene.free()
    scene.send("a")
    ticket = scene.send("a")
    sent = scene.free()
    scene.say("a", 5, 1, r0=ticket)
    counted = scene.free()
    scene.overlay.settle(ticket)
    ended = scene.free()
    scene.say("a", 5, 0, r0=ticket)

    assert (sent, counted, ended, scene.free()) == (0, 1, 1, 2)


def test_what_is_taken_and_not_placed_is_not_there_to_be_taken_again() -> None:
    scene = Scene()
    scene.say("a", 4, 0)
    scene.now_s += 0.01
    first = scene.room.take()
    left = scene.free()
    scene.room.placed()

    assert (first, left, scene.free()) == (True, 1, 2)


@pytest.mark.parametrize("waiting", [0, 1, 2])
def test_the_parts_of_all_routers_at_work_make_up_what_is_left(waiting: int) -> None:
    counts = {"r0": 4, "r1": 9, "r2": 5}
    parts = []
    for router in counts:
        scene = Scene("ab", router, routers=3)
        scene.now_s += 10
        for replica in "ab":
            scene.say(replica, 4, waiting, **counts)
        scene.send("a")
        parts.append(scene.free())

    assert sum(parts) == 2 * (2 - waiting)
    assert max(parts) - min(parts) <= 1


def test_slots_beyond_the_part_of_each_router_go_to_those_at_work() -> None:
    free = []
    for running in (6, 8, 9, 10):
        scene = Scene(router="r0", routers=2)
        scene.now_s += 10
        for _ in range(6):
            number = scene.send("a", tokens=100)
        scene.say("a", running, 0, r0=number)
        free.append(scene.free())

    # Of ten slots each of two routers has five; this one has six in flight, and may have what else is left.
    assert free == [2, 2, 1, 0]


def test_a_router_below_its_part_comes_to_it_though_no_slot_is_left() -> None:
    scene = Scene(router="r1", routers=2)
    scene.now_s += 10
    scene.say("a", 10, 0, r0=50)
    scene.say("a", 10, 1, r0=51)

    assert scene.free() == 1


def test_where_pages_are_silent_or_unread_each_router_keeps_to_its_part() -> None:
    scene = Scene("ab", routers=2)
    scene.say("a", 10, 9)
    unread = scene.free()
    scene.now_s += 3.5
    for _ in range(4):
        scene.send("b")

    # Five of the ten slots of b; then of a as well, and four are taken.
    assert (unread, scene.free()) == (5, 6)


def test_with_nothing_in_flight_one_may_go_however_full_all_are() -> None:
    scene = Scene()
    scene.say("a", 10, 9)
    first = scene.free()
    scene.send("a")

    assert (first, scene.free()) == (1, 0)


@pytest.mark.parametrize("waiting, sent", [(0, 2), (1, 1), (2, 0), (3, 0)])
def test_of_the_tickets_held_for_a_replica_as_many_may_go_as_it_has_room_for(waiting: int, sent: int) -> None:
    scene = Scene("ab")
    scene.say("a", 4, waiting)
    scene.say("b", 4, 0)
    for _ in range(3):
        scene.send("a")

    assert [scene.room.admits(HolderId("a"), held) for held in (3, 2, 1)] == [sent > 0, sent > 1, False]


def test_tickets_held_for_one_replica_leave_the_room_of_others_as_it_is() -> None:
    scene = Scene("ab")
    scene.say("a", 4, 2)
    scene.say("b", 4, 1)
    for _ in range(5):
        scene.send("a")

    assert scene.free() == 1


def test_a_router_with_nothing_in_flight_but_what_is_held_is_idle() -> None:
    scene = Scene("ab")
    scene.say("a", 10, 9)
    scene.say("b", 10, 9)
    scene.free()
    scene.send("a")
    scene.send("b")

    assert (scene.room.idle(2), scene.room.idle(1)) == (True, False)


def test_nobody_waits_for_a_replica_that_is_gone() -> None:
    scene = Scene("ab")
    scene.say("a", 10, 9)
    scene.send("a")
    before = scene.room.admits(HolderId("a"), 1)
    scene.roster.update("b")
    scene.now_s += 0.01

    assert (before, scene.room.admits(HolderId("a"), 1)) == (False, True)


@pytest.mark.parametrize("elsewhere, turns", [(0, ["-+-+", "+-+-"]), (9, ["----", "++++"])])
def test_routers_take_turns_at_a_replica_unless_all_are_full(elsewhere: int, turns: list[str]) -> None:
    seen = []
    for router in ("r0", "r1"):
        scene = Scene("ab", router, routers=2)
        scene.now_s = 120.001
        scene.say("a", 4, 1, r0=1, r1=1)
        scene.say("b", 4, elsewhere, r0=1, r1=1)
        scene.send("a")
        scene.send("a")
        scene.room.take()
        seen.append("")
        for _ in range(4):
            seen[-1] += "+" if scene.room.admits(HolderId("a"), 1) else "-"
            scene.now_s += 0.01

    assert seen == turns


def test_a_replica_that_something_counts_the_requests_of_gets_as_many_however_long_they_are() -> None:
    scene = Scene(least=6)
    free, ticket = [], scene.send("a")
    for running, waiting in ((1, 2), (3, 2), (4, 2), (1, 5)):
        scene.say("a", running, waiting, r0=ticket)
        free.append(scene.free())

    # Six, less the three, five and six that are in flight.
    assert free == [3, 1, 0, 0]


def test_replicas_that_come_and_go_are_counted_from_the_next_look() -> None:
    scene = Scene("ab")
    scene.say("a", 4, 0)
    scene.say("b", 4, 0)
    both = scene.free()
    scene.roster.update("b")

    assert (both, scene.free()) == (4, 2)


def test_a_router_is_at_work_while_its_numbers_rise_and_all_are_at_first() -> None:
    at_work = AtWork("b", 4, began_s=0.0)
    at_work.counted({"a": 5, "c": 2}, 1.0)
    first = at_work.place(1.0)
    at_work.counted({"a": 5, "c": 3}, 2.5)

    # a rose last at 1.0, c at 2.5.
    assert [first, at_work.place(2.9), at_work.place(3.1), at_work.place(4.6)] == [(1, 4), (1, 3), (0, 2), (0, 1)]


def test_routers_long_gone_are_forgotten() -> None:
    at_work = AtWork("b", 1, began_s=0.0)
    for number in range(5000):
        at_work.counted({f"r{number}": 1}, float(number))
        at_work.place(float(number))

    assert len(at_work._numbers) <= 1025
