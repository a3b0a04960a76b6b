"""Blocks are called by a letter, A to Z, and hold their place in the alphabet."""

import struct
from collections.abc import Sequence

import pytest

from kvplane.tests.workers.disks import FakeDisk, Gpu, idle, running
from kvplane.workers.content import Content
from kvplane.workers.engine import Removed, Stored
from kvplane.workers.fetch_costs import FetchCosts
from kvplane.workers.offload import LEAVING, Fetch, Offload
from kvplane.workers.vllm_events import translate


def digests(letters: str) -> list[bytes]:
    return [letter.encode() * 32 for letter in letters]


def content(letter: str) -> Content:
    return Content(letter.encode() * 32, None, struct.pack("<2I", 1, 2), ("salt",))


def sink(below: Offload, letters: str) -> None:
    """Evict blocks that lie in the gpu tier, one behind the other, and overwrite them in a step."""
    gpu = Gpu(len(letters))
    for block, letter in enumerate(letters):
        gpu.blocks[block] = ord(letter)
        below.sink(content(letter), block)
    gpu.step(below)


def told(below: Offload) -> list[str]:
    """What has been told since the last time, as in `+cpu A`."""
    lines: list[str] = []
    for event in translate(below.events):
        assert isinstance(event, Stored | Removed)
        sign = "+" if isinstance(event, Stored) else "-"
        lines += [f"{sign}{event.tier} {chr(int(name) & 0xFF)}" for name in event.hashes if isinstance(name, int)]
    below.events.clear()
    return lines


def held(below: Offload, letters: str = "ABCDEFGH") -> str:
    return "".join(letter for letter, digest in zip(letters, digests(letters), strict=True) if digest in below)


def come(fetch: Fetch | None) -> str:
    """The letters whose keys and values a fetch has brought."""
    assert fetch is not None
    blocks: Sequence[float] = [kept.kv.item() for kept in fetch.blocks[: fetch.depth] if kept.kv is not None]
    return "".join(chr(int(value)) for value in blocks)


def test_what_sinks_is_kept_in_memory_until_others_need_its_room() -> None:
    below = Offload(2)
    sink(below, "ABC")

    assert told(below) == ["+cpu A", "+cpu B", "+cpu C", "-cpu A"]
    assert held(below) == "BC"
    assert come(below.fetch(digests("BC"))) == "BC"


def test_blocks_are_fetched_as_far_as_they_lead_without_a_gap() -> None:
    below = Offload(8)
    sink(below, "ABD")

    assert come(below.fetch(digests("ABCD"))) == "AB"
    assert below.fetch(digests("CD")) is None


def test_of_what_was_fetched_the_end_goes_first_and_all_that_was_not_goes_before() -> None:
    below = Offload(3)
    sink(below, "ABC")
    below.fetch(digests("AB"))
    sink(below, "DE")

    assert held(below) == "ADE"


def test_a_block_evicted_again_is_not_copied_again_and_is_the_last_to_go() -> None:
    below = Offload(2)
    sink(below, "AB")
    below.sink(content("A"), 0)

    assert not below.take_moves().copies
    sink(below, "C")
    assert held(below) == "AC"


async def test_what_memory_has_no_room_for_goes_to_disk_and_is_told_there_before_it_is_told_gone() -> None:
    disk = FakeDisk()
    below = Offload(1, 2, disk)
    async with running(below):
        sink(below, "AB")
        before = told(below)
        await idle()

        assert before == ["+cpu A", "+cpu B"]
        assert told(below) == ["+disk A", "-cpu A"]
        assert {digest: kv.item() for digest, kv in disk.files.items()} == {b"A" * 32: ord("A")}


async def test_a_full_disk_tier_makes_room_before_it_writes() -> None:
    disk = FakeDisk()
    below = Offload(0, 2, disk)
    async with running(below):
        sink(below, "ABC")
        await idle()

        assert held(below) == "BC"
        assert told(below)[-3:] == ["-disk A", "+disk C", "-cpu C"]
        assert set(disk.files) == set(digests("BC"))
        assert disk.most == 2


async def test_blocks_come_from_both_tiers_in_the_order_of_the_prompt() -> None:
    below = Offload(2, 4, FakeDisk())
    async with running(below):
        sink(below, "CDAB")
        await idle()
        fetch = below.fetch(digests("ACBD"))
        assert fetch is not None
        assert fetch.depth is None
        await idle()

        assert come(fetch) == "ACBD"


async def test_a_block_fetched_from_disk_is_not_written_a_second_time() -> None:
    disk = FakeDisk()
    below = Offload(1, 4, disk)
    async with running(below):
        sink(below, "AB")
        await idle()
        sink(below, "AC")  # the disk has A, which is in memory too until C comes
        await idle()

        assert told(below)[-5:] == ["+cpu A", "+cpu C", "-cpu A", "+disk B", "-cpu B"]
        assert disk.written == 2


async def test_a_block_that_the_disk_has_lost_is_a_miss_and_so_is_all_behind_it() -> None:
    disk = FakeDisk()
    below = Offload(0, 4, disk)
    async with running(below):
        sink(below, "ABC")
        await idle()
        del disk.files[b"B" * 32]
        told(below)
        fetch = below.fetch(digests("ABC"))
        await idle()

        assert come(fetch) == "A"
        assert told(below) == ["-disk B"]
        assert held(below) == "AC"


async def test_a_block_that_the_disk_refuses_is_gone() -> None:
    disk = FakeDisk()
    disk.full = True
    below = Offload(0, 4, disk)
    async with running(below):
        sink(below, "A")
        await idle()

        assert told(below) == ["+cpu A", "-cpu A"]
        assert held(below) == ""


async def test_a_block_on_its_way_to_disk_is_fetched_from_memory() -> None:
    disk = FakeDisk()
    below = Offload(0, 4, disk)
    sink(below, "A")  # the disk is not running

    assert come(below.fetch(digests("A"))) == "A"
    assert told(below) == ["+cpu A"]


def test_no_more_than_so_many_blocks_wait_for_a_disk_that_does_not_keep_up() -> None:
    below = Offload(1, 10_000, FakeDisk())
    for number in range(LEAVING + 10):
        digest = number.to_bytes(32, "big")
        below.sink(Content(digest, None, struct.pack("<2I", 1, 2), None), 0)
    copies = below.take_moves().copies

    assert len(copies) == LEAVING + 1
    assert sum(isinstance(event, Removed) for event in translate(below.events)) == 9


def test_a_block_lent_in_the_step_that_drops_it_is_copied_all_the_same() -> None:
    below, gpu = Offload(1), Gpu(3)
    gpu.blocks[0] = ord("A")
    below.sink(content("A"), 0)
    fetch = below.fetch(digests("A"))
    below.sink(content("B"), 1)
    assert fetch is not None
    below.fill(fetch.blocks[0], 2)
    gpu.step(below)

    assert held(below) == "B"
    assert gpu.blocks[2].item() == ord("A")


async def test_a_fetch_that_nobody_waits_for_is_not_read() -> None:
    disk = FakeDisk()
    below = Offload(0, 4, disk)
    async with running(below):
        sink(below, "A")
        await idle()
        fetch = below.fetch(digests("A"))
        assert fetch is not None
        fetch.dropped = True
        await idle()

        assert fetch.depth is None


async def test_clearing_leaves_no_block_in_any_tier_nor_on_its_way() -> None:
    disk = FakeDisk()
    below = Offload(1, 4, disk)
    async with running(below):
        sink(below, "AB")
        await idle()
        sink(below, "CD")
        below.clear()
        below.events.clear()
        await idle()

        assert held(below) == ""
        assert disk.files == {}
        assert told(below) == []
        sink(below, "A")
        assert held(below) == "A"


@pytest.mark.parametrize("disk_us, depth", [(30.0, 2), (60.0, 0)])
def test_only_what_is_quicker_than_to_compute_is_fetched(disk_us: float, depth: int) -> None:
    costs = FetchCosts()
    costs.computed(1, 50e-6)
    costs.copied(1, disk_us / 1e6)
    below = Offload(4, costs=costs)
    sink(below, "AB")

    fetch = below.fetch(digests("AB"))
    assert (fetch.depth if fetch else 0) == depth


async def test_reading_teaches_what_a_token_from_disk_costs() -> None:
    times, costs = iter([10.0, 10.008]), FetchCosts()
    below = Offload(0, 4, FakeDisk(), costs, lambda: next(times))
    async with running(below):
        sink(below, "AB")
        await idle()
        below.fetch(digests("AB"))
        await idle()

        assert costs.disk_us == pytest.approx(8000 / 4)  # two blocks of two tokens
