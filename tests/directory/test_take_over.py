"""A closure that takes over from another says of the same blocks what it would say had it been there from the start."""

from random import Random

import pytest

from kvplane.directory import Changes, Closure, DomainKey
from kvplane.directory.closure import _STEP_BLOCKS
from kvplane.tests.trees import BLOCK_TOKENS, SALTS, Tree, key_of
from kvplane.workers.engine import Cleared, EngineEvent, Removed, Stored

EPOCH = 7


def next_key_of(salt: str) -> DomainKey:
    return key_of(salt).in_epoch(EPOCH)


def tell(closure: Closure, event: EngineEvent) -> None:
    match event:
        case Stored():
            closure.store(event.hashes, event.parent, event.words, event.tier, event.salt)
        case Removed():
            closure.remove(event.hashes, event.tier)
        case Cleared():
            closure.clear()


def said(closure: Closure) -> set[tuple[str, int, bytes]]:
    names = [(each, each.names[at : at + 8]) for each in closure.holding() for at in range(0, len(each.names), 8)]
    return {(each.tag, each.level, name) for each, name in names}


def read(changes: tuple[Changes, ...]) -> int:
    return sum(len(change.names) // 8 for change in changes if change.level)


@pytest.mark.parametrize("seed", range(20))
def test_it_ends_as_if_it_had_heard_everything_itself(seed: int) -> None:
    chance, tree = Random(seed), Tree(seed, blocks=900)
    told = [tree.random_event(chance) for _ in range(1200)]
    events = [event for event in told if not isinstance(event, Cleared)]
    before, ever = Closure(key_of, BLOCK_TOKENS), Closure(next_key_of, BLOCK_TOKENS)
    for event in events:
        tell(before, event)
        tell(ever, event)
    after, steps = Closure(next_key_of, BLOCK_TOKENS), 0
    for _ in after.take_over(before):
        steps += 1
        for later in [tree.random_event(chance) for _ in range(40)]:
            for each in (before, after, ever):
                tell(each, later)
    for later in [tree.random_event(chance) for _ in range(200)]:
        tell(after, later)
        tell(ever, later)

    assert steps > 1
    assert said(after) == said(ever)
    assert after.blocks == ever.blocks
    assert after.digest == ever.digest


def test_no_block_is_known_that_no_event_left_there() -> None:
    tree = Tree(3, blocks=900)
    before, after = Closure(key_of, BLOCK_TOKENS), Closure(next_key_of, BLOCK_TOKENS)
    events = [tree.stored(end, 900) for end in tree.ends]
    for event in events:
        tell(before, event)
    inner = Removed(tuple(tree.path(tree.ends[-1])[:-1]))
    for _ in range(len(events)):
        tell(before, inner)
    for _ in after.take_over(before):
        pass
    for event in events:
        for closure in (before, after):
            tell(closure, Removed(event.hashes))

    assert len(before._tree.known) == len(after._tree.known) == 1
    assert said(after) == set()


def late_child() -> tuple[Closure, Closure]:
    """An evicted block that a step comes to, and a block behind it to which only the next step comes."""
    salt, fillers = SALTS[0], range(10, 10 + _STEP_BLOCKS)
    before, after = Closure(key_of, BLOCK_TOKENS), Closure(next_key_of, BLOCK_TOKENS)
    tell(before, Stored((0,), None, b"p" * 16, "gpu", salt))
    tell(before, Stored((*fillers,), None, b"f" * 16 * len(fillers), "gpu", salt))
    tell(before, Stored((1,), 0, b"c" * 16))
    tell(before, Removed((0,)))
    return before, after


def test_a_block_whose_place_was_held_by_an_evicted_one_is_usable_once_that_is_back() -> None:
    before, after = late_child()
    steps = after.take_over(before)
    next(steps)
    for closure in (before, after):
        tell(closure, Stored((2,), 0, b"d" * 16))
    for _ in steps:
        pass
    for closure in (before, after):
        tell(closure, Stored((0,), None, b"", "cpu"))  # a tier that does not tell words

    assert before.blocks == after.blocks == _STEP_BLOCKS + 3


def test_what_is_gone_before_it_is_copied_leaves_nothing_behind() -> None:
    before, after = late_child()
    steps = after.take_over(before)
    next(steps)
    for closure in (before, after):
        tell(closure, Removed((1,)))
    for _ in steps:
        pass

    assert after._tree.known.keys() == before._tree.known.keys()


def test_it_takes_a_bounded_number_of_blocks_a_step() -> None:
    tree = Tree(5, blocks=900)
    before, after = Closure(key_of, BLOCK_TOKENS), Closure(next_key_of, BLOCK_TOKENS)
    tell(before, Stored((*range(900),), None, b"w" * 900 * 16, "gpu", tree.prompts[0].salt))
    held = [after.blocks for _ in after.take_over(before)]

    assert held == [_STEP_BLOCKS, 2 * _STEP_BLOCKS, 3 * _STEP_BLOCKS, 900]
    assert read(after.drain()) == 900
