"""Tokens made of block ids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplane.controlplane.replay.words import words_of

MASK = 2**64 - 1


def test_each_token_is_the_mix_of_its_block_and_place() -> None:
    words = np.frombuffer(words_of(np.array([7, 9]), 6, 4), "<u4").tolist()

    assert words == [expected(7, 0), expected(7, 1), expected(7, 2), expected(7, 3), expected(9, 0), expected(9, 1)]


def test_the_last_block_is_cut_where_the_prompt_ends() -> None:
    ids = np.arange(3)

    assert len(words_of(ids, 33, 16)) == 4 * 33
    assert words_of(ids, 48, 16).startswith(words_of(ids, 33, 16))


def test_prompts_are_the_same_as_far_as_their_ids_are() -> None:
    one, other = words_of(np.array([1, 2, 3]), 48, 16), words_of(np.array([1, 2, 4]), 48, 16)

    assert one[: 4 * 32] == other[: 4 * 32]
    assert one[4 * 32 :] != other[4 * 32 :]


def test_a_hundred_thousand_ids_are_a_hundred_thousand_blocks() -> None:
    blocks = np.frombuffer(words_of(np.arange(100_000), 400_000, 4), "<u4").reshape(-1, 4)

    assert len(np.unique(blocks, axis=0)) == 100_000


def test_single_tokens_meet_no_oftener_than_by_chance() -> None:
    words = np.frombuffer(words_of(np.arange(12_500), 200_000, 16), "<u4")

    assert words.max() < 2**31
    assert 200_000 - len(np.unique(words)) < 30  # 200,000² / 2³² is 9.3


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=8), st.integers(1, 32), st.data())
def test_any_ids_make_words_below_2_to_the_31(ids: list[int], block_tokens: int, data: st.DataObject) -> None:
    prompt = data.draw(st.integers((len(ids) - 1) * block_tokens + 1, len(ids) * block_tokens))
    words = np.frombuffer(words_of(np.array(ids), prompt, block_tokens), "<u4")

    assert len(words) == prompt
    assert (words < 2**31).all()


def test_as_many_ids_as_the_prompt_has_blocks_are_wanted() -> None:
    with pytest.raises(AssertionError, match="an id for each block"):
        words_of(np.arange(2), 33, 16)


def expected(block: int, place: int) -> int:
    """The same arithmetic on Python's integers."""
    return ((mixed(block) ^ mixed(~place & MASK)) * 0xBF58476D1CE4E5B9 & MASK) >> 33


def mixed(number: int) -> int:
    number = (number + 1) * 0x9E3779B97F4A7C15 & MASK
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & MASK
    number = (number ^ number >> 27) * 0x94D049BB133111EB & MASK
    return number ^ number >> 31
