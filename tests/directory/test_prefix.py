"""Names of prefixes: the same for the same words under the same key, and for nothing else."""

import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from kvplane.directory import DomainKey, Prefix, Segment, domain_key
from kvplane.directory.prefix import Chain


def words(tokens: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(tokens)}I", *tokens)


def prefix(tokens: Sequence[int], key: DomainKey) -> Prefix:
    return Prefix(words(tokens), 4, [Segment(key, 1 << 30)])


@pytest.mark.parametrize("tokens, blocks", [(0, 0), (1, 0), (4, 0), (5, 1), (8, 1), (9, 2)])
def test_the_last_token_is_never_reused(key: DomainKey, tokens: int, blocks: int) -> None:
    assert prefix(range(tokens), key).blocks == blocks


def test_a_name_is_60_bits_of_the_words_up_to_its_depth_and_no_others(key: DomainKey) -> None:
    one, other = prefix([1, 2, 3, 4, 5, 6, 7, 8, 9], key), prefix([1, 2, 3, 4, 50, 6, 7, 8, 9], key)

    assert one.name(1) == other.name(1)
    assert one.name(2) != other.name(2)
    assert 0 <= one.name(1) < 1 << 60


def test_a_chain_names_what_a_prefix_names(key: DomainKey) -> None:
    whole = prefix(range(41), key)
    chain = Chain(key)

    names = chain.extend(words(range(8)), 4) + chain.extend(words(range(8, 40)), 4)

    assert names == [whole.name(depth) for depth in range(1, whole.blocks + 1)]


@pytest.mark.parametrize("depth", [0, 3])
def test_a_depth_outside_the_prompt_is_an_error(key: DomainKey, depth: int) -> None:
    with pytest.raises(ValueError, match="1 to 2 blocks"):
        prefix(range(9), key).name(depth)


def test_two_domains_share_no_name(key: DomainKey) -> None:
    mine = prefix(range(400), key)
    theirs = prefix(range(400), domain_key("cd" * 32, "model", "", 4))
    depths = range(1, mine.blocks + 1)

    assert not {mine.name(depth) for depth in depths} & {theirs.name(depth) for depth in depths}


def test_a_prompt_may_begin_in_a_public_domain_and_go_on_in_a_private_one(key: DomainKey) -> None:
    private = domain_key("cd" * 32, "model", "", 4)
    mixed = Prefix(words(range(17)), 4, [Segment(key, 2), Segment(private, 4)])
    public, own = prefix(range(17), key), prefix(range(17), private)

    names = [mixed.name(depth) for depth in range(1, 5)]

    assert names == [public.name(1), public.name(2), own.name(3), own.name(4)]


def test_a_block_behind_the_last_segment_is_in_no_domain(key: DomainKey) -> None:
    with pytest.raises(ValueError, match="behind the last segment"):
        Prefix(words(range(9)), 4, [Segment(key, 1)]).name(2)


@pytest.mark.parametrize("part", [{"prf": bytes(32)}, {"seed": 7}])
def test_who_lacks_a_part_of_the_key_cannot_name_a_known_prompt(
    key: DomainKey, part: dict[str, Any]
) -> None:  # Any: fields of unlike types
    guess = prefix(range(9), replace(key, **part))

    assert guess.name(2) != prefix(range(9), key).name(2)
