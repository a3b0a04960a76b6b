"""Which block holds what, who uses it, and which goes next; on the GPU and below it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from kvplane.controlplane.replay.block_cache import BlockCache
from kvplane.controlplane.replay.job import CacheChange, Tier
from kvplane.controlplane.replay.tiers import Tiers


def test_a_released_prefix_is_found_until_its_blocks_are_needed() -> None:
    cache = BlockCache(4)
    _hold(cache, [1, 2, 3])

    assert len(cache.find(0, [1, 2, 3, 4])) == 3
    assert (cache.used_blocks, cache.free_blocks) == (0, 4)


def test_the_tail_of_what_was_freed_longest_ago_goes_first() -> None:
    cache = BlockCache(5)
    _hold(cache, [1, 2, 3])
    _hold(cache, [1, 8])

    cache.take(2)  # one is blank, then block 3 of the first

    assert cache.evicted == [(0, 3)]
    assert (len(cache.find(0, [1, 2, 3])), len(cache.find(0, [1, 8]))) == (2, 2)


def test_a_shared_block_stays_while_it_has_a_user() -> None:
    cache = BlockCache(2)
    first = _fill(cache, [1])
    cache.share(first)
    cache.release(first)

    assert cache.used(first) == 1
    assert cache.used(first, above=1) == 0
    assert cache.free_blocks == 1


def test_domains_never_find_each_others_blocks() -> None:
    cache = BlockCache(4)
    cache.release(_fill(cache, [1, 2], domain=7))

    assert len(cache.find(7, [1, 2])) == 2
    assert cache.find(8, [1, 2]) == []
    assert list(cache.held()) == [(7, 1), (7, 2)]


def test_content_computed_twice_is_gone_with_its_second_block() -> None:
    cache = BlockCache(2)
    [first], [second] = cache.take(1), cache.take(1)

    told = [cache.fill(first, (0, 1)), cache.fill(second, (0, 1))]
    cache.release([first])
    cache.release([second])
    cache.take(1)
    after_one = list(cache.evicted)
    cache.take(1)

    assert told == [True, False]
    assert after_one == []
    assert cache.evicted == [(0, 1)]


def test_an_evicted_block_sinks_from_tier_to_tier_and_then_is_gone() -> None:
    tiers = Tiers(1, cpu_blocks=1, disk_blocks=1)

    for block_id in (1, 2, 3, 4):
        _pass_through(tiers, [block_id])

    assert list(tiers.held()) == [(0, 4), (0, 3), (0, 2)]
    assert tiers.evicted_blocks == 3


def test_a_prefix_is_found_across_the_tiers_in_order() -> None:
    tiers = Tiers(3, cpu_blocks=1, disk_blocks=4)
    _pass_through(tiers, [1, 2, 3])
    tiers.take(2)  # 3 and then 2 sink, and 3 on to the disk

    hit = tiers.find(0, [1, 2, 3, 4])

    assert (len(hit.blocks), hit.cpu_blocks, hit.disk_blocks) == (1, 1, 1)
    assert tiers.depth(0, [1, 2, 3, 4], 4) == 3
    assert tiers.depth(0, [1, 2, 3, 4], 2) == 2
    assert tiers.below(0, [1, 2]) == (1, 0)


def test_what_can_be_reused_is_cut_from_its_deep_end() -> None:
    tiers = Tiers(3, cpu_blocks=1, disk_blocks=4)
    _pass_through(tiers, [1, 2, 3])
    tiers.take(2)

    hit = tiers.find(0, [1, 2, 3]).cut(2)

    assert (hit.depth, hit.cpu_blocks, hit.disk_blocks) == (2, 1, 0)


def test_every_change_is_told_once_in_order_with_its_parent() -> None:
    tiers = Tiers(2, cpu_blocks=1)
    _pass_through(tiers, [1, 2])
    tiers.take(1)

    assert tiers.tell(5.0) == [
        CacheChange(5.0, True, "gpu", 0, None, (1, 2)),
        CacheChange(5.0, True, "cpu", 0, 1, (2,)),
        CacheChange(5.0, False, "gpu", 0, None, (2,)),
    ]
    assert tiers.tell(6.0) == []


def test_only_what_others_could_not_find_yet_is_told() -> None:
    tiers = Tiers(8)
    _pass_through(tiers, [1, 2])
    tiers.tell(0.0)
    blocks = tiers.take(4)

    tiers.fill(0, [1, 2, 3, 4], blocks, 0, 4)

    assert tiers.tell(1.0) == [CacheChange(1.0, True, "gpu", 0, 2, (3, 4))]


Paths = st.lists(st.integers(0, 1), min_size=1, max_size=6)  # a way down a binary tree of prefixes


@settings(deadline=None)
@given(st.lists(st.tuples(Paths, st.integers(0, 3)), max_size=40), st.integers(0, 3), st.integers(0, 4))
def test_whatever_happens_prefixes_stay_closed_and_blocks_are_conserved(
    history: list[tuple[list[int], int]], cpu_blocks: int, disk_blocks: int
) -> None:
    tiers = Tiers(8, cpu_blocks, disk_blocks)
    listener = Listener()
    using: list[list[int]] = []
    for path, leaving in history:
        ids = _ids(path)
        found = tiers.find(0, ids)
        assert tiers.depth(0, ids, len(ids)) == found.depth == tiers.depth(0, ids, 99)
        fresh = len(ids) - len(found.blocks)
        if fresh <= tiers.gpu.free_blocks - len(found.blocks) + tiers.gpu.used(found.blocks):
            tiers.gpu.share(found.blocks)
            tiers.lift([(0, each) for each in ids[len(found.blocks) : found.depth]])
            blocks = found.blocks + tiers.take(fresh)
            tiers.fill(0, ids, blocks, len(found.blocks), len(ids))
            using.append(blocks)
        for _ in range(min(leaving, len(using))):
            tiers.gpu.release(using.pop(0))

        held = [block_id for _, block_id in tiers.held()]
        assert len(held) == len(set(held)) <= 8 + cpu_blocks + disk_blocks
        assert all(each // 2 in held for each in held if each > 3)
        assert tiers.gpu.used_blocks == len({block for blocks in using for block in blocks})
        assert set(held) == listener.hear(tiers.tell(0.0))


class Listener:
    """Believes what it is told of the tiers."""

    def __init__(self) -> None:
        self._held: dict[Tier, set[int]] = {"gpu": set(), "cpu": set(), "disk": set()}

    def hear(self, changes: list[CacheChange]) -> set[int]:
        for change in changes:
            if change.stored:
                assert not self._held[change.tier].intersection(change.block_ids)
                self._held[change.tier].update(change.block_ids)
            else:
                assert self._held[change.tier].issuperset(change.block_ids)
                self._held[change.tier].difference_update(change.block_ids)
        return set().union(*self._held.values())


def _ids(path: list[int]) -> list[int]:
    """The numbers of a binary tree's nodes on the way: a node's parent is half of it."""
    ids = []
    node = 1
    for turn in path:
        node = 2 * node + turn
        ids.append(node)
    return ids


def _fill(cache: BlockCache, ids: list[int], domain: int = 0) -> list[int]:
    """Use what is found, and compute the rest."""
    found = cache.find(domain, ids)
    cache.share(found)
    fresh = cache.take(len(ids) - len(found))
    for block, block_id in zip(fresh, ids[len(found) :], strict=True):
        cache.fill(block, (domain, block_id))
    return found + fresh


def _hold(cache: BlockCache, ids: list[int]) -> None:
    cache.release(_fill(cache, ids))


def _pass_through(tiers: Tiers, ids: list[int]) -> None:
    blocks = tiers.take(len(ids))
    tiers.fill(0, ids, blocks, 0, len(ids))
    tiers.gpu.release(blocks)
