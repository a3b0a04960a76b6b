"""What tickets under way will leave: as a comparison block by block would have it, in bounded memory, for a while."""

import os
from collections.abc import Sequence
from random import Random

import pytest

from kvplane.directory import Domain, DomainKey, HolderId, Keyring, Prefix, Segment, domain_key, holder_id
from kvplane.directory.promises import LAG_S, Promises

BLOCK = 2
ONE, TWO = holder_id("one"), holder_id("two")
FOREVER = 1 << 20
KEYRING = Keyring(b"m" * 32)


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def key(organisation: str) -> DomainKey:
    return domain_key(KEYRING.salt(Domain(organisation, "default")), "m", "", BLOCK)


ACME, GLOBEX, PUBLIC = key("acme"), key("globex"), key("public")


def prompt(words: bytes, *segments: Segment) -> Prefix:
    return Prefix(words, BLOCK, segments or (Segment(ACME, FOREVER),))


def blocks(*numbers: int) -> bytes:
    """Two equal words a block."""
    return b"".join(number.to_bytes(4, "little") * BLOCK for number in numbers)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def promises(clock: Clock) -> Promises:
    return Promises(clock)


def test_each_holder_was_promised_the_whole_blocks_that_its_prompts_share_with_a_new_one(promises: Promises) -> None:
    promises.make(1, ONE, prompt(blocks(1, 2, 3, 4)))
    promises.make(2, TWO, prompt(blocks(1, 2, 9)))
    promises.make(3, TWO, prompt(blocks(1, 9)))

    assert promises.extents(prompt(blocks(1, 2, 3, 5, 6))) == {ONE: 3, TWO: 2}
    assert promises.extents(prompt(blocks(7, 2, 3))) == {}


def test_half_a_block_in_common_is_nothing_in_common(promises: Promises) -> None:
    promises.make(1, ONE, prompt(blocks(1, 2) + b"\3\0\0\0"))

    assert promises.extents(prompt(blocks(1, 2, 3))) == {ONE: 2}


def test_the_same_prompt_in_another_domain_is_promised_nothing(promises: Promises) -> None:
    words = blocks(1, 2, 3)
    promises.make(1, ONE, prompt(words))

    assert promises.extents(prompt(words, Segment(GLOBEX, FOREVER))) == {}


def test_two_tenants_share_the_public_beginning_alone(promises: Promises) -> None:
    words = blocks(1, 2, 3, 4)
    promises.make(1, ONE, prompt(words, Segment(PUBLIC, 2), Segment(ACME, FOREVER)))

    assert promises.extents(prompt(words, Segment(PUBLIC, 2), Segment(GLOBEX, FOREVER))) == {ONE: 2}
    assert promises.extents(prompt(words, Segment(PUBLIC, 2), Segment(ACME, FOREVER))) == {ONE: 3}


def test_the_last_token_of_a_new_prompt_is_to_be_computed_and_that_of_a_ticket_will_be(promises: Promises) -> None:
    promises.make(1, ONE, prompt(blocks(1, 2, 3)))

    assert promises.extents(prompt(blocks(1, 2, 3))) == {ONE: 2}
    assert promises.extents(prompt(blocks(1, 2, 3, 4))) == {ONE: 3}


def test_a_prompt_of_less_than_a_block_promises_nothing(promises: Promises) -> None:
    promises.make(1, ONE, prompt(b"\1\0\0\0"))

    assert promises.extents(prompt(b"\1\0\0\0")) == {}
    assert promises.extents(prompt(b"")) == {}


def test_long_prompts_that_part_anywhere_are_told_apart_to_the_block(promises: Promises) -> None:
    long = os.urandom(4 * BLOCK * 3000)
    for number, parting in enumerate((1, 255, 256, 257, 1535, 1536, 2999)):
        changed = bytearray(long)
        changed[4 * BLOCK * parting] ^= 1
        promises.make(number, HolderId(f"r-{parting}"), prompt(bytes(changed)))

    assert {holder: int(holder[2:]) for holder in promises.extents(prompt(long))} == promises.extents(prompt(long))


LAYOUTS = (
    (Segment(ACME, FOREVER),),
    (Segment(PUBLIC, FOREVER),),
    (Segment(PUBLIC, 2), Segment(ACME, FOREVER)),
    (Segment(PUBLIC, 3), Segment(ACME, FOREVER)),
    (Segment(PUBLIC, 3), Segment(GLOBEX, FOREVER)),
)


def in_common(made: Prefix, new: Prefix) -> int:
    for depth in range(1, new.blocks + 1):
        end = depth * BLOCK * 4
        same = len(made.words) >= end and made.words[:end] == new.words[:end]
        if not same or made.segment(depth).key != new.segment(depth).key:
            return depth - 1
    return new.blocks


def expected(made: dict[int, tuple[HolderId, Prefix]], new: Prefix) -> dict[HolderId, int]:
    found: dict[HolderId, int] = {}
    for holder, prefix in made.values():
        found[holder] = max(in_common(prefix, new), found.get(holder, 0))
    return {holder: extent for holder, extent in found.items() if extent}


@pytest.mark.parametrize("seed", range(20))
def test_promises_agree_with_comparing_block_by_block(promises: Promises, seed: int) -> None:
    random = Random(seed)
    made: dict[int, tuple[HolderId, Prefix]] = {}

    def any_prompt() -> Prefix:
        numbers: Sequence[int] = [random.choice((1, 1, 1, 2)) for _ in range(random.randint(0, 9))]
        return prompt(blocks(*numbers) + b"\0" * 4 * random.randint(0, 1), *random.choice(LAYOUTS))

    for number in range(300):
        made[number] = HolderId(f"r-{random.randint(0, 9)}"), any_prompt()
        promises.make(number, *made[number])
        if len(made) > 30:  # fewer than are compared
            gone = random.choice(list(made))
            promises.withdraw(gone)
            del made[gone]
        new = any_prompt()

        assert promises.extents(new) == expected(made, new)


def test_a_promise_stands_for_one_lag_after_its_request_has_ended(promises: Promises, clock: Clock) -> None:
    promises.make(1, ONE, prompt(blocks(1, 2)))
    promises.make(2, TWO, prompt(blocks(1, 2)))
    promises.end(1)
    clock.now += 0.9 * LAG_S
    late = promises.extents(prompt(blocks(1, 2, 3)))
    clock.now += 0.2 * LAG_S

    assert late == {ONE: 2, TWO: 2}
    assert promises.extents(prompt(blocks(1, 2, 3))) == {TWO: 2}


def test_a_promise_withdrawn_is_void_at_once_and_may_be_withdrawn_or_ended_again(
    promises: Promises, clock: Clock
) -> None:
    promises.make(1, ONE, prompt(blocks(1, 2)))
    promises.end(1)
    promises.withdraw(1)
    promises.withdraw(1)
    promises.end(1)
    clock.now += 2 * LAG_S

    assert promises.extents(prompt(blocks(1, 2, 3))) == {}


def test_only_the_latest_that_begin_alike_are_compared(promises: Promises) -> None:
    for number in range(40):
        promises.make(number, HolderId(f"r-{number}"), prompt(blocks(1, number)))

    assert set(promises.extents(prompt(blocks(1, 2)))) == {f"r-{number}" for number in range(8, 40)}


@pytest.mark.parametrize("more, kept", [(4095, {ONE: 1}), (4096, {})])
def test_the_oldest_of_many_promises_goes_first(promises: Promises, more: int, kept: dict[HolderId, int]) -> None:
    promises.make(0, ONE, prompt(blocks(1, 1)))
    for number in range(1, more + 1):
        promises.make(number, TWO, prompt(blocks(1 + number)))

    assert promises.extents(prompt(blocks(1, 2))) == kept
    assert promises.extents(prompt(blocks(1 + more, 2))) == {TWO: 1}


@pytest.mark.parametrize("more, kept", [(15, {ONE: 1}), (16, {})])
def test_the_oldest_goes_first_when_words_take_too_much(
    promises: Promises, more: int, kept: dict[HolderId, int]
) -> None:
    words = bytes(4 << 20)
    promises.make(0, ONE, prompt(blocks(1) + words[: -4 * BLOCK]))
    for number in range(1, more + 1):
        promises.make(number, TWO, prompt(words))

    assert promises.extents(prompt(blocks(1, 2))) == kept
