"""Room is shared without a word between routers."""

import pytest

from kvplane.controlplane.at_work import AtWork
from kvplane.controlplane.room import Room
from kvplane.controlplane.roster import Roster
from kvplane.directory import HolderId, Load, Overlay
from kvplane.tests.told_pages import PROMPT, Told, row


class Scene:
    """One router's room at some replicas, of ten slots each; time is a number."""

    def __init__(self, replicas: str = "a", router: str = "r0", routers: int = 1) -> None:
        self.now_s = 100.0
        self.mirror, self.overlay, self.roster = Told(lambda: self.now_s), Overlay(router, lambda: self.now_s), Roster()
        self.roster.update(replicas)
        self.room = Room(router, routers, self.mirror, self.overlay, self.roster, lambda: 10, lambda: self.now_s)

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


def seen(scene: Scene) -> str:
    rows = [row(replica, scene.mirror, scene.overlay) for replica in scene.roster.live]
    return "".join(candidate.replica for candidate in scene.room.narrow(rows))


def test_a_decision_sees_only_replicas_with_room_and_all_where_none_has() -> None:
    scene = Scene("abc")
    for replica, waiting in zip("abc", (0, 2, 1), strict=True):
        scene.say(replica, 4, waiting)
    scene.free()
    some = seen(scene)
    scene.send("c")
    fewer = seen(scene)
    scene.send("a")
    scene.send("a")

    assert (some, fewer, seen(scene)) == ("ac", "a", "abc")


def test_a_decision_heeds_what_pages_said_since_the_last_look() -> None:
    scene = Scene("abc", routers=2)
    scene.now_s += 10
    for _ in range(5):
        number = scene.send("a")
    for replica in "abc":
        scene.say(replica, 9, 1, r0=number)
    scene.free()
    scene.say("a", 10, 0, r0=number)
    scene.say("b", 4, 2, r0=number)

    # a lacks no more first tokens, but has its five; b was sent another by somebody.
    assert seen(scene) == "c"


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
