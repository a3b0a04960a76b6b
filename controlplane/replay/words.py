"""Real tokens for a prompt of which only the blocks' ids are known."""

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def words_of(block_ids: NDArray[np.int64], prompt_tokens: int, block_tokens: int) -> bytes:
    """Little-endian uint32 below 2**31, one a token: token i of block h is a 64-bit mix of (h, i), cut.

    The ids are those of `ceil(prompt_tokens / block_tokens)` blocks; the last is cut where the prompt ends.
    """
    assert len(block_ids) == -(-prompt_tokens // block_tokens), "an id for each block"
    of_block = _mixed(block_ids.view(np.uint64))
    of_place = _mixed(~np.arange(block_tokens, dtype=np.uint64))  # inverted, so that no place is anybody's id
    words = np.bitwise_xor.outer(of_block, of_place)
    words *= _FIRST
    words >>= np.uint64(33)
    return words.astype("<u4").tobytes()[: 4 * prompt_tokens]


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014): a bijection in which each bit moves half of the others."""
    mixed = (numbers + np.uint64(1)) * _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return mixed ^ (mixed >> np.uint64(31))
