"""Columns of load are kept: who says nothing new is not asked again, and nothing that fails leaves them half true."""

import asyncio
import time
from collections.abc import Callable

import pytest

from kvplane.controlplane.loads import Loads
from kvplane.controlplane.roster import Roster
from kvplane.directory import (
    Batch,
    Checkpoint,
    Domain,
    HolderId,
    Holdings,
    Keyring,
    Load,
    MemoryPages,
    Mirror,
    Overlay,
    Prefix,
    Segment,
    domain_key,
    seal,
)
from kvplane.policies.field import COLUMNS, LAST_CHOSEN

A, B, C = HolderId("a"), HolderId("b"), HolderId("c")
KEYRING = Keyring(b"m" * 32)
PROMPT = Prefix(bytes(36), 1, (Segment(domain_key(KEYRING.salt(Domain("acme", "default")), "m", "", 1), 9),))
WAITING, DECODE, ONGOING = map(COLUMNS.index, ("waiting_prefill_tokens", "decode_blocks", "ongoing"))


class Asked(Mirror):
    """Every holder is busy with as many tokens as its mirror was asked times; notes whom it was asked about."""

    def __init__(self) -> None:
        super().__init__(MemoryPages(), Holdings(), KEYRING.mac_key, lambda holder, served: None, lambda: self.at_s)
        self.at_s = 0.0
        self.unread: HolderId | None = None
        self.asked: list[HolderId] = []
        self.broken: HolderId | None = None

    def load(self, holder: HolderId) -> tuple[Load, float] | None:
        if holder == self.unread:
            return None
        if holder == self.broken:
            raise RuntimeError("a broken page")
        self.asked.append(holder)
        return Load(len(self.asked), counted={"r1": 1}), 0.1

    def speak(self, holder: HolderId) -> None:
        self._changed(holder)


@pytest.fixture
def mirror() -> Asked:
    return Asked()


@pytest.fixture
def overlay() -> Overlay:
    return Overlay("r1", lambda: 0.0)


@pytest.fixture
def roster() -> Roster:
    roster = Roster()
    roster.update([A, B])
    return roster


@pytest.fixture
def loads(mirror: Asked, overlay: Overlay, roster: Roster) -> Loads:
    return Loads(mirror, overlay, roster)


def test_only_whose_page_spoke_or_whose_tickets_changed_is_read_again(
    loads: Loads, mirror: Asked, overlay: Overlay
) -> None:
    def read(happens: Callable[[], object]) -> list[HolderId]:
        happens()
        mirror.asked.clear()
        loads.refresh()
        return mirror.asked.copy()

    assert read(lambda: None) == [A, B]
    assert read(lambda: None) == []
    assert read(lambda: mirror.speak(B)) == [B]
    assert read(lambda: overlay.issue(A, 1, 1, PROMPT)) == [A]
    assert read(lambda: overlay.settle(1)) == [A]
    assert read(lambda: mirror.speak(C)) == []


def test_a_page_falls_silent_while_it_says_nothing_unless_it_was_never_read(loads: Loads, mirror: Asked) -> None:
    mirror.unread = B
    loads.refresh()
    begun = loads.fresh.tolist()
    mirror.at_s = 2.8  # 2.9 s after what was said 0.1 s before the beginning
    later = loads.fresh.tolist()
    mirror.at_s = 3.0

    assert (begun, later, loads.fresh.tolist()) == ([True, True], [True, True], [False, True])
    assert (loads.known.tolist(), loads.all_known) == ([True, False], False)
    mirror.speak(A)
    loads.refresh()
    assert loads.fresh.tolist() == [True, True]


def test_tickets_count_from_the_first_that_the_page_does_not(loads: Loads, overlay: Overlay) -> None:
    for tokens in (1000, 100, 10):
        overlay.issue(A, tokens, tokens, PROMPT)
    loads.refresh()

    assert loads.numbers(1)[WAITING].tolist() == [1 + 110, 2]  # the page says 1 and 2, and counts ticket number 1
    assert loads.numbers(1)[DECODE].tolist() == [110, 0]
    assert loads.numbers(1)[ONGOING].tolist() == [3, 0]


def test_when_others_are_alive_all_are_read_and_the_last_choices_are_kept(
    loads: Loads, mirror: Asked, roster: Roster
) -> None:
    loads.refresh()
    loads.chose("b", 1)
    roster.update([B, C])
    mirror.asked.clear()
    loads.refresh()

    assert (loads.replicas, mirror.asked) == (("b", "c"), [B, C])
    assert loads.numbers(4)[LAST_CHOSEN].tolist() == [3, 0]
    assert (loads.last_chosen("b", 4), loads.last_chosen("c", 4)) == (3, 0)


def test_a_reading_that_failed_is_done_again(loads: Loads, mirror: Asked, roster: Roster) -> None:
    happenings: tuple[Callable[[], object], ...] = (lambda: mirror.speak(B), lambda: roster.update([B, C]))
    loads.refresh()
    for happens in happenings:
        happens()
        mirror.broken = B
        with pytest.raises(RuntimeError, match="a broken page"):
            loads.refresh()
        mirror.broken = None
        mirror.asked.clear()
        loads.refresh()
        assert B in mirror.asked


def test_choices_of_the_departed_are_forgotten_in_time(loads: Loads, roster: Roster) -> None:
    for number in range(1, 100):
        roster.update([f"r-{number}"])
        loads.refresh()
        loads.chose(f"r-{number}", number)

    assert loads.last_chosen("r-99", 100) == 1
    assert loads.last_chosen("r-50", 100) == 0


async def test_what_a_page_says_is_in_the_columns_once_the_mirror_has_heard_it() -> None:
    pages, roster = MemoryPages(), Roster()
    mirror = Mirror(pages, Holdings(), KEYRING.mac_key, lambda holder, served: None, time.monotonic)
    loads = Loads(mirror, Overlay("r1", time.monotonic), roster)
    roster.update([A])
    loads.refresh()
    unread = loads.known.tolist(), loads.fresh.tolist()
    following = asyncio.create_task(mirror.run(lambda: [A]))
    key = KEYRING.mac_key(A, 1)

    await pages.checkpoint(seal(Checkpoint(A, 1, 0, Load(5)), key))
    first = await waiting(loads, 5)
    await pages.append(seal(Batch(A, 1, 1, Load(6)), key))
    second = await waiting(loads, 6)
    following.cancel()

    assert unread == ([False], [True])
    assert first == second == ([True], [True])


async def waiting(loads: Loads, tokens: int) -> tuple[list[bool], list[bool]]:
    async with asyncio.timeout(5):
        while loads.numbers(1)[WAITING].tolist() != [tokens]:
            await asyncio.sleep(0.001)
            loads.refresh()
    return loads.known.tolist(), loads.fresh.tolist()
