"""A difference counts when it is found each time; then what is wrong is repaired, and that is looked at too."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from kvplane.controlplane.directory_report import MirroredPage, MirrorReport
from kvplane.controlplane.directory_verify import Mirrored, Verified, verify
from kvplane.directory import Account, HolderId, PageRead, Place, holder_id

A, B = holder_id("a"), holder_id("b")


def account(holder: HolderId, blocks: int, seq: int = 1) -> Account:
    return Account(holder, 1, seq, bytes([blocks]) * 48, (blocks, 0, 0))


def reported(holder: HolderId, aside: HolderId | None) -> MirroredPage:
    """A page as a mirror reports it: three times it told of too much, twice too fast."""
    return MirroredPage(holder, 1, 1, 0, 9.0, 0, 0, 0, 0, 0, implausible=3, hasty=2, aside=holder == aside)


@dataclass(frozen=True)
class FakePage:
    """So many blocks, wherever it is asked."""

    holder: HolderId
    blocks: int

    async def at(self, places: Collection[Place]) -> PageRead:
        return PageRead({place: account(self.holder, self.blocks, place[1]) for place in places}, place=max(places))


class FakeFleet:
    """Two replicas of three blocks each, their pages, and the mirrors of two routers; a repair takes, or does not."""

    def __init__(self) -> None:
        self.own: dict[HolderId, int] = {A: 3, B: 3}
        self.page: dict[HolderId, int] = {A: 3, B: 3}
        self.mirror: dict[str, dict[HolderId, int]] = {"r1": {A: 3, B: 3}, "r2": {A: 3, B: 3}}
        self.aside: dict[str, HolderId] = {}  # by router: a replica whose page it takes for impossible
        self.asked: list[object] = []
        self.slept: list[float] = []
        self.repairs = True
        self.at_second_look: Callable[[], None] = lambda: None

    async def accounts(self, holders: Collection[HolderId]) -> Sequence[Account]:
        return [account(holder, blocks) for holder, blocks in self.own.items()]

    async def mirrored(self, holders: Collection[HolderId]) -> Sequence[Mirrored]:
        return [
            Mirrored(router, tuple(account(holder, blocks) for holder, blocks in held.items()))
            for router, held in self.mirror.items()
        ]

    async def mirrors(self) -> Sequence[MirrorReport]:
        return [
            MirrorReport(router, 0, 0, 0, (), tuple(reported(holder, self.aside.get(router)) for holder in held))
            for router, held in self.mirror.items()
        ]

    async def rewrite(self, holders: Collection[HolderId]) -> None:
        self.asked.append(("rewrite", list(holders)))
        if self.repairs:
            self.page.update({holder: self.own[holder] for holder in holders})

    async def reload(self, wanted: Mapping[str, Collection[HolderId]]) -> None:
        self.asked.append(("reload", {router: list(holders) for router, holders in wanted.items()}))
        for router, holders in wanted.items() if self.repairs else ():
            self.mirror[router].update({holder: self.page[holder] for holder in holders})

    @asynccontextmanager
    async def open_page(self, holder: HolderId) -> AsyncIterator["FakePage"]:
        yield FakePage(holder, self.page[holder])

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) == 1:
            self.at_second_look()

    async def verified(self) -> Verified:
        return await verify(self, self.open_page, [B, A], self.sleep)


async def test_where_all_agree_one_look_is_enough() -> None:
    fleet = FakeFleet()
    verified = await fleet.verified()

    assert verified.equal
    assert [held.replica for held in verified.replicas] == [A, B]
    assert verified.routers == ("r1", "r2")
    assert fleet.slept == []
    assert fleet.asked == []


async def test_a_difference_that_is_gone_a_moment_later_is_none() -> None:
    fleet = FakeFleet()
    fleet.mirror["r1"][A] = 2
    fleet.at_second_look = lambda: fleet.mirror["r1"].update({A: 3})
    verified = await fleet.verified()

    assert verified.equal
    assert fleet.asked == []


async def test_a_wrong_mirror_is_reloaded_by_its_router_alone_and_reported_as_repaired() -> None:
    fleet = FakeFleet()
    fleet.mirror["r2"][B] = 2
    verified = await fleet.verified()

    assert fleet.asked == [("reload", {"r2": [B]})]
    assert not verified.equal
    assert [(each.replica, each.router, each.repaired) for each in verified.findings] == [(B, "r2", True)]


async def test_a_page_that_a_mirror_has_set_aside_is_said_to_be_so_and_why() -> None:
    fleet = FakeFleet()
    fleet.mirror["r1"].update({A: 0, B: 2})
    fleet.mirror["r2"][A] = 0
    fleet.aside, fleet.repairs = {"r1": A}, False
    verified = await fleet.verified()

    said = {(each.replica, each.router): each.what for each in verified.findings}
    assert said == {
        (A, "r1"): "has set the page aside, for it cannot be true: 3 messages told of more blocks in gpu than fit,"
        " 2 of more new ones than can have been computed",
        (B, "r1"): "differs from the page",
        (A, "r2"): "differs from the page",
    }
    assert [each.levels[0].found for each in verified.findings] == [0, 0, 2]


async def test_a_wrong_page_is_rewritten_by_its_replica() -> None:
    fleet = FakeFleet()
    fleet.page[A] = 1
    for mirror in fleet.mirror.values():
        mirror[A] = 1
    verified = await fleet.verified()

    assert ("rewrite", [A]) in fleet.asked
    assert [each.copy for each in verified.findings] == ["page"]


async def test_what_a_repair_leaves_wrong_is_said_to_be_so() -> None:
    fleet = FakeFleet()
    fleet.mirror["r1"][A] = 2
    fleet.repairs = False
    verified = await fleet.verified()

    assert [each.repaired for each in verified.findings] == [False]
    assert len(fleet.slept) == 2 + 5


async def test_a_replica_that_does_not_answer_is_a_finding() -> None:
    fleet = FakeFleet()
    del fleet.own[A]
    verified = await fleet.verified()

    assert [(each.replica, each.copy, each.what) for each in verified.findings] == [(A, "replica", "does not answer")]
    assert fleet.asked == []
