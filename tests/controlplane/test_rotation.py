"""A rotation of names: step by step, who is told what and when; and under load, that no hit is lost by it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from kvplane.controlplane.accounts.memory_accounts import MemoryAccounts
from kvplane.controlplane.errors import AccountsDown
from kvplane.controlplane.rotation import Rotation
from kvplane.directory.epochs import NameEpochs
from kvplane.tests.rotating import ACME, BLOCK, Counted, Fleet, Replica, Router, fleet, read


class Processes:
    """Routers and replicas that answer what a test says."""

    def __init__(self) -> None:
        self.routers: list[NameEpochs | None] | None = [NameEpochs()]
        self.pages: list[int | None] | None = [0, 0]
        self.told: list[int] = []

    async def look_ups(self) -> Sequence[NameEpochs | None] | None:
        return self.routers

    async def rename(self, epoch: int) -> Sequence[int | None] | None:
        self.told.append(epoch)
        return self.pages


class Scene:
    """One registrar, at a time that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.processes = Processes()
        self.accounts = MemoryAccounts(lambda: self.now_s)
        self.restart()

    def restart(self) -> None:
        self.rotation = Rotation(self.accounts, self.processes, lambda: self.now_s)

    async def at(self, now_s: float) -> NameEpochs:
        self.now_s = now_s
        await self.rotation.step()
        return await self.accounts.epochs()


async def test_replicas_are_told_only_once_every_router_looks_up_in_both_epochs() -> None:
    scene = Scene()
    both = await scene.accounts.begin_epoch()
    scene.processes.routers = [both, NameEpochs()]
    await scene.at(101)
    scene.processes.routers = [both, None]
    await scene.at(102)
    scene.processes.routers = None
    await scene.at(103)
    too_early = list(scene.processes.told)
    scene.processes.routers = [both, both]
    await scene.at(104)

    assert too_early == []
    assert scene.processes.told == [1]


async def test_a_router_that_never_answers_holds_nobody_up_for_long() -> None:
    scene = Scene()
    await scene.accounts.begin_epoch()
    scene.processes.routers = [None]
    await scene.at(101)
    await scene.at(130.9)
    before = list(scene.processes.told)
    await scene.at(131)

    assert (before, scene.processes.told) == ([], [1])


async def test_an_epoch_ends_ten_seconds_after_the_last_page_went_over() -> None:
    scene = Scene()
    scene.processes.routers = [await scene.accounts.begin_epoch()]
    scene.processes.pages = [1, 0]
    lasting = [await scene.at(101)]
    scene.processes.pages = [1, 1]
    lasting += [await scene.at(102), await scene.at(111)]
    scene.processes.pages = [1, None]
    lasting.append(await scene.at(112))
    scene.processes.pages = [1, 1]
    lasting += [await scene.at(113), await scene.at(122.9)]

    assert set(lasting) == {NameEpochs(1, 0)}
    assert await scene.at(123) == NameEpochs(1)


async def test_the_next_rotation_takes_its_own_time() -> None:
    scene = Scene()
    scene.processes.routers, scene.processes.pages = [await scene.accounts.begin_epoch()], [1]
    first = [await scene.at(now_s) for now_s in (101, 111)]
    scene.processes.routers, scene.processes.pages = [await scene.accounts.begin_epoch()], [2]
    second = [await scene.at(now_s) for now_s in (140, 149, 150)]
    await scene.accounts.begin_epoch()
    scene.processes.told.clear()
    await scene.at(180)

    assert first == [NameEpochs(1, 0), NameEpochs(1)]
    assert second == [NameEpochs(2, 1), NameEpochs(2, 1), NameEpochs(2)]
    assert scene.processes.told == []


async def test_while_no_replica_answers_no_epoch_ends() -> None:
    scene = Scene()
    scene.processes.routers = [await scene.accounts.begin_epoch()]
    scene.processes.pages = None

    assert {await scene.at(now_s) for now_s in range(101, 200)} == {NameEpochs(1, 0)}


async def test_a_registrar_that_starts_in_mid_rotation_goes_on_with_it() -> None:
    scene = Scene()
    scene.processes.routers = [await scene.accounts.begin_epoch()]
    scene.processes.pages = [0, 0]
    await scene.at(101)
    scene.restart()
    scene.processes.pages = [1, 1]
    await scene.at(102)

    assert scene.rotation.epochs == NameEpochs(1, 0)
    assert await scene.at(112) == NameEpochs(1)


async def test_the_present_epoch_is_told_again_and_again_for_who_started_under_another() -> None:
    scene = Scene()
    for now_s in (100, 101, 109.9, 110, 111, 120):
        await scene.at(now_s)

    assert scene.processes.told == [0, 0, 0]


async def test_while_accounts_are_down_nothing_is_told_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    await scene.at(100)
    reached = scene.accounts.epochs

    async def down() -> NameEpochs:
        raise AccountsDown("taken away")

    scene.accounts.epochs = down  # type: ignore[method-assign]  # the store is taken away
    for now_s in (111, 112, 113):
        scene.now_s = now_s
        await scene.rotation.step()
    told, said = list(scene.processes.told), caplog.text.count("taken away")
    scene.accounts.epochs = reached  # type: ignore[method-assign]
    await scene.at(114)

    assert (told, said) == ([0], 1)
    assert scene.processes.told == [0, 0]


async def rotated(made: Fleet) -> Counted:
    """What is counted from the moment an epoch begins until the one before has ended."""
    await made.accounts.begin_epoch()
    counted = [await made.second()]
    while (await made.accounts.epochs()).ending is not None:
        counted.append(await made.second())
        assert len(counted) < 60, "a rotation ends"
    return total(counted)


def total(counted: Sequence[Counted]) -> Counted:
    return Counted(*map(sum, zip(*counted, strict=True)))


async def settled(made: Fleet, seconds: int = 20) -> Counted:
    return total([await made.second() for _ in range(seconds)])


async def test_names_that_rotate_under_load_cost_less_than_a_hundredth_of_the_hits() -> None:
    async with fleet() as (made, _):
        before = await settled(made)
        during = [await rotated(made) for _ in range(3)]
        after = await settled(made)
        pages = [router.mirror.seen(holder) for router in made.routers for holder in made.live()]

    assert before.seen == before.held
    assert after.seen == after.held
    assert total(during).held > 20_000
    assert total(during).seen >= 0.99 * total(during).held
    assert total(during).reused >= 0.99 * total(during).held
    assert {replica.renaming.epoch for replica in made.replicas.values()} == {3}
    assert {(page.gaps, page.mismatches, page.implausible, page.hasty) for page in pages if page} == {(3, 0, 0, 0)}


async def test_under_the_next_salt_nothing_is_seen_of_what_was_cached_under_the_one_before() -> None:
    words = bytes(4 * (6 * BLOCK + 1))
    async with fleet() as (made, _):
        await settled(made)
        router = made.routers[0]
        before, ticket = router.place(words, ACME)
        after, other = router.place(words, replace(ACME, salt_epoch=1))
        engines = [replica.engine for replica in made.replicas.values()]

    assert (before, after) == (6, 0)
    assert max(engine.held(words, ticket.salt) for engine in engines) == 6
    assert max(engine.held(words, other.salt) for engine in engines) == 0


async def test_a_router_that_starts_in_mid_rotation_sees_pages_of_both_epochs() -> None:
    async with fleet() as (made, tasks):
        await settled(made)
        await made.accounts.begin_epoch()
        while {replica.renaming.epoch for replica in made.replicas.values()} != {0, 1}:
            await made.second()
        fresh = Router("fresh", made, made.rotation.epochs)
        following = tasks.create_task(fresh.mirror.run(made.live))
        await read(fresh, made.live())
        made.routers = [fresh]
        counted = await made.second()
        following.cancel()

    assert made.rotation.epochs == NameEpochs(1, 0)
    assert counted.seen >= 0.99 * counted.held > 0


async def test_a_router_that_was_granted_an_epoch_before_it_ended_reads_what_is_true() -> None:
    async with fleet() as (made, tasks):
        await settled(made)
        late = Router("late", made, made.rotation.epochs)
        await rotated(made)
        following = tasks.create_task(late.mirror.run(made.live))
        await read(late, made.live())
        await late.reader.look()
        made.routers = [late]
        counted = await made.second()
        following.cancel()

    assert counted.seen == counted.held > 0


async def test_a_replica_that_joins_in_mid_rotation_is_seen_at_once() -> None:
    async with fleet() as (made, tasks):
        await settled(made)
        await made.accounts.begin_epoch()
        while made.rotation.epochs.ending is None:
            await made.second()
        joined = Replica("joined", made.pages, made.rotation.epochs.present)
        running = joined.start(tasks)
        made.join(joined)
        await read(made.routers[0], made.live())
        counted = await settled(made)
        for task in running:
            task.cancel()

    assert joined.publisher.blocks > 0
    assert counted.seen >= 0.99 * counted.held


async def test_a_replica_that_registered_before_a_rotation_and_joined_after_it_goes_over() -> None:
    async with fleet() as (made, tasks):
        late = Replica("late", made.pages, epoch=0)
        await settled(made)
        await rotated(made)
        running = late.start(tasks)
        made.join(late)
        await read(made.routers[0], made.live())
        await settled(made, seconds=12)
        counted = await settled(made)
        for task in running:
            task.cancel()

    assert late.renaming.epoch == 1
    assert late.publisher.blocks > 0
    assert counted.seen == counted.held
