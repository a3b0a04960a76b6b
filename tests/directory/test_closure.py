"""A page promises only what can be used: checked case by case, and against a naive oracle on random streams."""

import random
import struct
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import pytest

from kvplane.directory import Changes, Closure, DomainKey, Level, Prefix, Segment, domain_key
from kvplane.directory.digest import Digest
from kvplane.directory.wire import names_of

Tier = Literal["gpu", "cpu", "disk"]
TIERS: tuple[Tier, ...] = ("gpu", "cpu", "disk")
BLOCK = 4
SALT = "ab" * 32


def key_of(salt: str) -> DomainKey:
    return domain_key(salt, "model", "", BLOCK)


def closure() -> Closure:
    return Closure(key_of, BLOCK)


def words(blocks: Sequence[int]) -> bytes:
    return b"".join(struct.pack("<4I", block, 0, 0, 0) for block in blocks)


def name(path: Sequence[int], salt: str = SALT) -> int:
    """The name of the prefix that consists of these blocks."""
    return Prefix(words([*path, 0]), BLOCK, [Segment(key_of(salt), 1 << 30)]).name(len(path))


def levels(changes: Sequence[Changes]) -> dict[int, Level]:
    found = [(value, Level(change.level)) for change in changes for value in names_of(change)]
    assert len(dict(found)) == len(found), "a name is mentioned once"
    return dict(found)


def digest(changes: Sequence[Changes]) -> bytes:
    """What a holding comes to, computed anew."""
    total = Digest()
    for change in changes:
        total.add(Level(change.level), change.names)
    return bytes(total)


def stored(tree: Closure, path: Sequence[int], tier: Tier = "gpu") -> None:
    """Store a prompt's blocks, each named by the engine after its own number."""
    tree.store(path, None, words(path), tier, SALT)


def test_stored_blocks_are_named_like_the_prompts_that_will_ask_for_them() -> None:
    tree = closure()

    stored(tree, [1, 2, 3])

    assert levels(tree.drain()) == {name([1]): Level.GPU, name([1, 2]): Level.GPU, name([1, 2, 3]): Level.GPU}
    assert tree.blocks == 3


def test_an_evicted_block_withdraws_its_descendants_and_its_return_restores_them() -> None:
    tree = closure()
    stored(tree, [1, 2, 3])
    tree.drain()

    tree.remove([2], "gpu")
    withdrawn = levels(tree.drain())
    tree.store([2], 1, words([2]), "gpu", None)
    restored = levels(tree.drain())

    assert withdrawn == {name([1, 2]): Level.NONE, name([1, 2, 3]): Level.NONE}
    assert restored == {name([1, 2]): Level.GPU, name([1, 2, 3]): Level.GPU}


def test_a_block_in_a_farther_tier_holds_its_descendants_at_that_level() -> None:
    tree = closure()
    stored(tree, [1, 2, 3])
    tree.store([2], 1, words([2]), "cpu", None)
    tree.drain()

    tree.remove([2], "gpu")

    assert levels(tree.drain()) == {name([1, 2]): Level.CPU, name([1, 2, 3]): Level.CPU}
    assert levels(tree.holding())[name([1])] == Level.GPU


def test_a_block_stored_twice_stays_until_it_is_removed_twice() -> None:
    tree = closure()
    stored(tree, [1])
    tree.store([1], None, words([1]), "gpu", SALT)
    tree.drain()

    tree.remove([1], "gpu")
    once = tree.drain()
    tree.remove([1], "gpu")

    assert once == ()
    assert levels(tree.drain()) == {name([1]): Level.NONE}


def test_a_child_that_comes_before_its_parent_waits_unnamed() -> None:
    tree = closure()

    tree.store([3], 2, words([3]), "cpu", None)
    tree.store([2], 1, words([2]), "cpu", None)
    waiting = tree.drain()
    tree.store([1], None, words([1]), "cpu", SALT)

    assert waiting == ()
    assert levels(tree.drain()) == {name([1]): Level.CPU, name([1, 2]): Level.CPU, name([1, 2, 3]): Level.CPU}


def test_a_block_without_a_salt_waits_until_one_is_told() -> None:
    tree = closure()

    tree.store([1], None, words([1]), "cpu", None)
    waiting = tree.drain()
    tree.store([1], None, words([1]), "gpu", SALT)

    assert waiting == ()
    assert levels(tree.drain()) == {name([1]): Level.GPU}


def test_a_block_without_words_waits_until_they_are_told() -> None:
    tree = closure()

    tree.store([1], None, b"", "cpu", SALT)
    waiting = tree.drain()
    stored(tree, [1])

    assert waiting == ()
    assert levels(tree.drain()) == {name([1]): Level.GPU}


def test_a_known_block_keeps_its_salt_in_every_tier() -> None:
    tree = closure()
    stored(tree, [1])
    tree.drain()

    tree.store([1], None, words([1]), "cpu", "cd" * 32)
    tree.remove([1], "gpu")

    assert levels(tree.drain()) == {name([1]): Level.CPU}


def test_a_chain_may_go_on_in_another_domain() -> None:
    tree = closure()
    private = "cd" * 32
    stored(tree, [1, 2])

    tree.store([3, 4], 2, words([3, 4]), "gpu", private)

    assert {name([1, 2]), name([1, 2, 3], private), name([1, 2, 3, 4], private)} < set(levels(tree.drain()))


def test_one_name_behind_two_engine_hashes_goes_with_the_last_of_them() -> None:
    tree = closure()
    tree.store(["a"], None, words([1]), "gpu", SALT)
    tree.store(["b"], None, words([1]), "cpu", SALT)
    tree.drain()

    tree.remove(["a"], "gpu")
    nearer = levels(tree.drain())
    tree.remove(["b"], "cpu")

    assert nearer == {name([1]): Level.CPU}
    assert levels(tree.drain()) == {name([1]): Level.NONE}
    assert tree.blocks == 0


def test_a_clear_withdraws_everything_once() -> None:
    tree = closure()
    stored(tree, [1, 2])
    tree.drain()

    tree.clear()
    cleared = levels(tree.drain())
    stored(tree, [1])

    assert cleared == {name([1]): Level.NONE, name([1, 2]): Level.NONE}
    assert levels(tree.drain()) == {name([1]): Level.GPU}


def test_removing_what_is_not_there_changes_nothing() -> None:
    tree = closure()
    stored(tree, [1])
    tree.drain()

    tree.remove([1], "disk")
    tree.remove([99], "gpu")

    assert tree.drain() == ()
    assert tree.blocks == 1


def test_the_dead_are_forgotten() -> None:
    tree = closure()
    stored(tree, range(100))
    tree.store(["orphan"], "unknown", words([7]), "gpu", None)

    tree.remove([*range(99, -1, -1), "orphan"], "gpu")
    tree.drain()

    assert set(tree._tree.known) == {None}
    assert not tree._domains


@pytest.mark.parametrize("gone", [[2, 3, 4], [4, 3, 2], [3, 2, 4]])
def test_siblings_come_back_with_the_block_they_share_and_leave_one_by_one(gone: Sequence[int]) -> None:
    tree = closure()
    stored(tree, [1])
    for child in (2, 3, 4):
        tree.store([child], 1, words([child]), "gpu", None)
    tree.drain()

    tree.remove([1], "gpu")
    withdrawn = levels(tree.drain())
    tree.store([1], None, words([1]), "gpu", SALT)
    restored = levels(tree.drain())
    tree.remove(gone, "gpu")

    paths = [[1], [1, 2], [1, 3], [1, 4]]
    assert withdrawn == dict.fromkeys(map(name, paths), Level.NONE)
    assert restored == dict.fromkeys(map(name, paths), Level.GPU)
    assert levels(tree.holding()) == {name([1]): Level.GPU}


def test_a_run_behind_an_evicted_block_waits_for_its_return() -> None:
    tree = closure()
    stored(tree, [1, 2])
    tree.remove([1], "gpu")
    tree.drain()

    tree.store([3, 4], 2, words([3, 4]), "gpu", None)
    waiting = tree.drain()
    tree.store([1], None, words([1]), "cpu", None)

    assert waiting == ()
    assert levels(tree.drain()) == dict.fromkeys(
        [name([1]), name([1, 2]), name([1, 2, 3]), name([1, 2, 3, 4])], Level.CPU
    )


def test_a_run_that_mentions_a_block_twice_counts_it_twice() -> None:
    tree = closure()

    tree.store([1, 2, 2], None, words([1, 2, 2]), "gpu", SALT)
    tree.remove([2], "gpu")
    once = levels(tree.drain())
    tree.remove([2], "gpu")

    assert once == {name([1]): Level.GPU, name([1, 2]): Level.GPU}
    assert levels(tree.drain()) == {name([1, 2]): Level.NONE}


def test_a_name_that_left_and_came_back_behind_another_hash_is_told_once() -> None:
    tree = closure()
    stored(tree, [1, 2])
    tree.drain()

    tree.remove([2, 1], "gpu")
    tree.store(["a", "b"], None, words([1, 2]), "cpu", SALT)

    assert levels(tree.drain()) == {name([1]): Level.CPU, name([1, 2]): Level.CPU}
    assert tree.digest == digest(tree.holding())


def test_a_prompt_of_a_hundred_thousand_blocks_is_withdrawn_and_cleared() -> None:
    tree, path = closure(), range(100_000)
    stored(tree, path)
    tree.drain()

    tree.remove([0], "gpu")
    withdrawn = levels(tree.drain())
    tree.clear()

    assert len(withdrawn) == len(path)
    assert set(withdrawn.values()) == {Level.NONE}


def test_an_engine_that_starts_again_is_told_as_what_it_stores_then() -> None:
    tree = closure()
    stored(tree, [1, 2, 3])
    tree.drain()

    tree.clear()
    stored(tree, [1, 4])

    assert levels(tree.drain()) == {
        name([1]): Level.GPU, name([1, 4]): Level.GPU, name([1, 2]): Level.NONE, name([1, 2, 3]): Level.NONE
    }  # fmt: skip


def test_a_digest_that_went_astray_is_set_right() -> None:
    tree = closure()
    stored(tree, [1, 2, 3])
    tree.drain()
    tree.remove([3], "gpu")
    right = tree.digest
    tree._digest.add(Level.GPU, bytes(7) + b"\1")
    wrong = tree.digest

    assert tree.reconcile(tree.holding())
    assert not tree.reconcile(tree.holding())
    assert wrong != tree.digest == right
    tree.drain()
    assert tree.digest == right


@pytest.mark.parametrize("seed", range(6))
def test_a_run_says_what_its_blocks_say_one_by_one(seed: int) -> None:
    chance, whole, single = random.Random(seed), closure(), closure()
    paths: list[tuple[int, ...]] = [()]
    for step in range(300):
        trunk, tier = chance.choice(paths), chance.choice(TIERS)
        fresh = (*trunk, *(chance.randrange(6) for _ in range(chance.randrange(1, 6))))
        first = len(trunk) - chance.randrange(len(trunk) + 1) // 3
        salt = chance.choice([SALT, "cd" * 32]) if chance.random() < 0.1 else None if first else SALT
        if chance.random() < 0.6:
            paths.append(fresh)
            hashes = [fresh[: depth + 1] for depth in range(first, len(fresh))]
            whole.store(hashes, fresh[:first] or None, words(fresh[first:]), tier, salt)
            for depth in range(first, len(fresh)):
                single.store([fresh[: depth + 1]], fresh[:depth] or None, words(fresh[depth : depth + 1]), tier, salt)
        else:
            gone = [fresh[: depth + 1] for depth in range(len(fresh))]
            chance.shuffle(gone)
            for tree in (whole, single):
                tree.remove(gone, tier)
        if step % 3 == 0:
            assert levels(whole.drain()) == levels(single.drain())
            assert levels(whole.holding()) == levels(single.holding())
            assert whole.digest == single.digest


@pytest.mark.parametrize("seed", range(12))
def test_it_says_what_a_naive_oracle_says(seed: int) -> None:
    chance = random.Random(seed)
    tree, copies, known = closure(), Counter[tuple[Tier, tuple[int, ...]]](), dict[int, Level]()
    paths = [tuple(chance.randrange(3) for _ in range(length)) for length in range(1, 6) for _ in range(8)]
    for _ in range(400):
        _random_event(chance, tree, copies, paths)

        assert tree.digest == digest(tree.holding())
        if chance.random() < 0.3:
            known.update(levels(tree.drain()))
            usable = _usable(copies)

            assert {value: level for value, level in known.items() if level} == usable
            assert levels(tree.holding()) == usable
            assert tree.blocks == len(usable)


def _random_event(
    chance: random.Random, tree: Closure, copies: Counter[tuple[Tier, tuple[int, ...]]], paths: list[tuple[int, ...]]
) -> None:
    """The engine's hash of a block is its whole path, so equal hashes mean equal content."""
    tier, path = chance.choice(TIERS), chance.choice(paths)
    draw = chance.random()
    if draw < 0.005:
        tree.clear()
        copies.clear()
    elif draw < 0.5:
        first = chance.randrange(len(path))
        hashes = [path[: depth + 1] for depth in range(first, len(path))]
        parent = path[:first] or None
        tree.store(hashes, parent, words(path[first:]), tier, None if parent else SALT)
        copies.update((tier, block) for block in hashes)
    elif held := [entry for entry, count in sorted(copies.items()) if count]:
        entry = chance.choice(held)
        tree.remove([entry[1]], entry[0])
        copies[entry] -= 1


def _usable(copies: Counter[tuple[Tier, tuple[int, ...]]]) -> dict[int, Level]:
    """A block is usable at a union of tiers if each block of its path is in one of them."""
    found = {}
    for path in {path for (_, path), count in copies.items() if count}:
        for level in (Level.GPU, Level.CPU, Level.DISK):
            steps = (path[:depth] for depth in range(1, len(path) + 1))
            if all(any(copies[tier, step] for tier in TIERS[:level]) for step in steps):
                found[name(path)] = level
                break
    return found


def test_a_block_that_left_while_a_checkpoint_had_it_is_told_as_gone() -> None:
    tree = closure()
    stored(tree, [1])
    in_the_checkpoint = tree.holding()
    tree.remove([1], "gpu")

    assert levels(in_the_checkpoint) == {name([1]): Level.GPU}
    assert levels(tree.drain()) == {name([1]): Level.NONE}
