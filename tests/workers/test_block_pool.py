import random
import struct
from collections import Counter
from collections.abc import Sequence

import pytest

from kvplane.workers.block_pool import BlockPool, Table
from kvplane.workers.engine import BlockHash, Cleared, EngineEvent, Public, Removed, Stored
from kvplane.workers.vllm_events import AllBlocksCleared, BlockRemoved, BlockStored, translate


def table(tokens: Sequence[int], salt: str = "s", public: Public | None = None) -> Table:
    return Table(salt, bytearray(struct.pack(f"<{len(tokens)}I", *tokens)), public=public)


def computed(pool: BlockPool, tokens: Sequence[int], salt: str = "s", public: Public | None = None) -> Table:
    """A sequence whose whole prompt has been computed and which still runs."""
    made = table(tokens, salt, public)
    assert pool.open(made)
    pool.store(made, len(tokens))
    return made


class Replayed:
    """What a reader of the events knows: how many blocks of each content there are."""

    def __init__(self) -> None:
        self.copies: Counter[BlockHash] = Counter()
        self.children: dict[tuple[BlockHash | None, str, bytes], BlockHash] = {}

    def apply(self, event: EngineEvent, size: int) -> None:
        match event:
            case Stored():
                above, salt = event.parent, event.salt or ""
                for index, name in enumerate(event.hashes):
                    self.children[above, salt, event.words[index * size : (index + 1) * size]] = name
                    self.copies[name] += 1
                    above, salt = name, ""
            case Removed():
                self.copies.subtract(event.hashes)
                assert min(self.copies.values()) >= 0
            case Cleared():
                self.copies.clear()

    def cached_blocks(self, probe: Table, size: int) -> int:
        above: BlockHash | None = None
        salts = {0: probe.public.salt, probe.public.blocks: probe.salt} if probe.public else {0: probe.salt}
        for index in range((len(probe.words) - 4) // size):
            words = bytes(probe.words[index * size : (index + 1) * size])
            name = self.children.get((above, salts.get(index, ""), words))
            if name is None or not self.copies[name]:
                return index
            above = name
        return (len(probe.words) - 4) // size


def test_a_released_prompt_is_reused_but_for_the_block_of_its_last_token() -> None:
    pool = BlockPool(8, 4)
    pool.release(computed(pool, range(8)))

    again, longer = table(range(8)), table(range(9))
    assert pool.cached_tokens(again) == 4
    assert pool.cached_tokens(longer) == 8


def test_sequences_share_the_blocks_of_a_common_prefix() -> None:
    pool = BlockPool(8, 4)
    first = computed(pool, [1, 2, 3, 4, 5])

    second = table([1, 2, 3, 4, 6])
    assert pool.open(second)
    assert second.blocks[0] == first.blocks[0]
    assert second.blocks[1] != first.blocks[1]
    assert pool.free_blocks == 5


def test_another_salt_shares_nothing() -> None:
    pool = BlockPool(8, 4)
    computed(pool, range(9), salt="a")

    assert pool.cached_tokens(table(range(9), salt="a")) == 8
    assert pool.cached_tokens(table(range(9), salt="b")) == 0
    hashes = [event.block_hashes for event in pool.take_events() if isinstance(event, BlockStored)]
    computed(pool, range(9), salt="b")
    others = [event.block_hashes for event in pool.take_events() if isinstance(event, BlockStored)]
    assert not set(hashes[0]) & set(others[0])


def test_two_salts_share_the_public_blocks_and_nothing_behind_them() -> None:
    pool, public = BlockPool(12, 4), Public("p", 2)
    computed(pool, range(17), "a", public)
    probes = {
        "the same": table(range(17), "a", public),
        "another's": table(range(17), "b", public),
        "another's, public but for one block": table(range(17), "b", Public("p", 1)),
        "another's, public for one block more": table(range(17), "b", Public("p", 3)),
        "in another public domain": table(range(17), "a", Public("q", 2)),
        "wholly its own": table(range(17), "a"),
        "wholly public": table(range(17), "p"),
    }

    assert {what: pool.cached_tokens(probe) for what, probe in probes.items()} == {
        "the same": 16,
        "another's": 8,
        "another's, public but for one block": 4,
        "another's, public for one block more": 8,
        "in another public domain": 0,
        "wholly its own": 0,
        "wholly public": 8,
    }


@pytest.mark.parametrize(
    "steps, salts",
    [
        ((9,), [("p", 2), ("a", 2)]),
        ((2, 6, 8), [("p", 1), (None, 1), ("a", 1), (None, 1)]),
        ((4, 8), [("p", 2), ("a", 2)]),
    ],
)
def test_a_store_tells_the_salt_of_each_segment_that_begins_in_it(
    steps: tuple[int, ...], salts: list[tuple[str | None, int]]
) -> None:
    pool, running = BlockPool(8, 2), table(range(9), "a", Public("p", 2))
    assert pool.open(running)
    for tokens in steps:
        pool.store(running, tokens)
    told = [event for event in translate(pool.take_events()) if isinstance(event, Stored)]

    assert [(event.salt, len(event.hashes)) for event in told] == salts
    assert b"".join(event.words for event in told) == running.words[:32]
    assert [event.parent for event in told] == [None, *(event.hashes[-1] for event in told[:-1])]


def test_a_store_is_told_as_vllm_tells_it() -> None:
    pool = BlockPool(8, 2)
    running = computed(pool, [1, 2, 3, 4])
    [opening] = pool.take_events()
    running.words += struct.pack("<2I", 5, 6)
    assert pool.grow(running, 6)
    pool.store(running, 6)
    [decoded] = pool.take_events()

    assert isinstance(opening, BlockStored)
    assert isinstance(decoded, BlockStored)
    assert (opening.token_ids, opening.block_size, opening.medium) == ((1, 2, 3, 4), 2, "GPU")
    assert opening.parent_block_hash is None
    assert opening.extra_keys == (("s",), None)
    assert decoded.token_ids == (5, 6)
    assert decoded.parent_block_hash == opening.block_hashes[-1]
    assert decoded.extra_keys is None
    assert all(isinstance(name, int) and 0 <= name < 1 << 64 for name in opening.block_hashes)


def test_the_same_content_has_the_same_names_in_every_pool() -> None:
    pools = BlockPool(4, 2), BlockPool(9, 2)
    computed(pools[1], [7, 7])
    pools[1].take_events()
    for pool in pools:
        computed(pool, [1, 2, 3, 4])

    assert pools[0].take_events() == pools[1].take_events()


def test_blocks_that_are_not_full_or_not_computed_are_not_stored() -> None:
    pool = BlockPool(8, 4)
    running = table(range(8))
    assert pool.open(running)
    pool.store(running, 7)

    assert running.stored == 1
    assert pool.cached_tokens(table(range(9))) == 4


def test_the_tail_of_the_prompt_released_first_is_evicted_first() -> None:
    pool = BlockPool(6, 2)
    for tokens in ([1, 2, 3, 4, 5, 6], [11, 12, 13, 14, 15, 16]):
        pool.release(computed(pool, tokens))
    old, young = (event.block_hashes for event in pool.take_events() if isinstance(event, BlockStored))
    newcomer = table(range(20, 28))
    assert pool.open(newcomer)

    evicted = [event.block_hashes[0] for event in pool.take_events() if isinstance(event, BlockRemoved)]
    assert evicted == [old[2], old[1], old[0], young[2]]


def test_a_reused_block_is_the_last_to_go() -> None:
    pool = BlockPool(4, 2)
    for tokens in ([1, 2], [3, 4]):
        pool.release(computed(pool, tokens))
    reader = table([1, 2, 9])
    assert pool.open(reader)
    pool.release(reader)
    assert pool.open(table(range(30, 36)))

    assert pool.cached_tokens(table([1, 2, 0])) == 2
    assert pool.cached_tokens(table([3, 4, 0])) == 0


def test_empty_blocks_are_taken_before_cached_ones() -> None:
    pool = BlockPool(3, 2)
    pool.release(computed(pool, [1, 2]))
    half_full = table([5])
    assert pool.open(half_full)
    pool.release(half_full)
    assert pool.open(table([6, 7, 8]))

    assert pool.cached_tokens(table([1, 2, 0])) == 2


def test_equal_blocks_are_stored_twice_and_removed_twice() -> None:
    pool = BlockPool(2, 2)
    first, second = table([1, 2]), table([1, 2])
    for running in (first, second):
        assert pool.open(running)
    for running in (first, second):
        pool.store(running, 2)
        pool.release(running)
    assert pool.open(table([5]))
    stored, twin, removed = pool.take_events()

    assert isinstance(stored, BlockStored)
    assert stored == twin
    assert removed == BlockRemoved(block_hashes=stored.block_hashes, medium="GPU")
    assert pool.cached_tokens(table([1, 2, 0])) == 2
    assert pool.open(table([6]))
    assert pool.take_events() == [removed]
    assert pool.cached_tokens(table([1, 2, 0])) == 0


def test_a_table_that_does_not_fit_changes_nothing() -> None:
    pool = BlockPool(4, 2)
    pool.release(computed(pool, [1, 2, 3, 4]))
    running = computed(pool, [7, 8])
    pool.take_events()

    assert not pool.open(table([1, 2, 3, 4, *range(20, 24)]))
    assert not pool.grow(running, 10)
    assert pool.take_events() == []
    assert pool.free_blocks == 3
    assert pool.cached_tokens(table([1, 2, 3, 4, 0])) == 4


def test_clearing_waits_for_the_pool_to_be_idle() -> None:
    pool = BlockPool(4, 2)
    running = computed(pool, [1, 2, 3, 4])
    pool.take_events()

    assert not pool.clear()
    pool.release(running)
    assert pool.clear()
    assert pool.take_events() == [AllBlocksCleared()]
    assert pool.cached_tokens(table([1, 2, 3])) == 0


@pytest.mark.parametrize("seed", range(20))
def test_events_replayed_predict_what_the_pool_can_reuse_at_every_step(seed: int) -> None:
    chance = random.Random(seed)
    pool, size = BlockPool(12, 2), 2 * 4
    replayed = Replayed()
    running: list[Table] = []
    seen: list[Table] = []
    for _ in range(300):
        match chance.choice(["open", "open", "decode", "decode", "release", "clear"]):
            case "open":
                tokens = [chance.randrange(2) for _ in range(chance.randrange(1, 12))]
                made = table(tokens, chance.choice("ab"), chance.choice([None, Public("p", chance.choice([1, 2]))]))
                seen.append(table(tokens, made.salt, made.public))
                if pool.open(made):
                    pool.store(made, chance.randint(made.stored * 2, len(tokens)))
                    running.append(made)
            case "decode" if running:
                grown = chance.choice(running)
                if pool.grow(grown, grown.tokens + 1):
                    pool.store(grown, grown.tokens)
                    grown.words += struct.pack("<I", chance.randrange(2))
                    tokens = list(struct.unpack(f"<{grown.tokens}I", grown.words))
                    seen.append(table(tokens, grown.salt, grown.public))
            case "release" if running:
                pool.release(running.pop(chance.randrange(len(running))))
            case "clear":
                pool.clear()
        for event in translate(pool.take_events()):
            replayed.apply(event, size)
        for probe in seen[-40:]:
            assert pool.cached_tokens(probe) == 2 * replayed.cached_blocks(probe, size)
    for each in running:
        pool.release(each)
    assert pool.free_blocks == pool.blocks
