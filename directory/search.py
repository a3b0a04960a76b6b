"""Finding where each holder's extent of a prompt ends, by divide and conquer over whole-prefix names.

Holdings are closed under prefixes, so who holds depth d only shrinks with d: equal bits at both ends of an interval
prove the whole interval. What it costs follows the number of distinct extents, not of holders.
"""

from collections.abc import Mapping, Sequence

import xxhash

from .ids import DomainTag, Level
from .masks import ALL, WIDTH, every
from .prefix import WORD_BYTES, Hasher, Prefix, Segment

Tables = Mapping[DomainTag, Mapping[int, int]]
End = tuple[int, int]  # a depth, and the bits of those whose extent it is
_Part = tuple[Segment, int, int, int, int]  # the depths from one to another in one segment, and the bits at both

_NOTHING: Mapping[int, int] = {}


def ends_of(prefix: Prefix, tables: Tables, live: int, k: int | None) -> tuple[list[End], int]:
    """Each depth at which live bits end, deepest first, and the most blocks that whoever is in none of them can reuse.

    With `k` it stops once the k holders that reach deepest in any tier are known, and follows only those to where
    their nearer tiers end. Costs one pass over the prompt's words, and about log2(blocks) names a distinct extent.
    """
    ends: list[End] = []
    wanted, bound = live, 0
    ended, furthest = 0, 0 if k is None else every(Level.DISK, live.bit_length() // WIDTH + 1)
    words, size = memoryview(prefix.words), prefix.block_tokens * WORD_BYTES
    for segment, least, most, at_least, at_most in reversed(_parts(prefix, tables, live)):
        key, get = segment.key, tables.get(segment.key.tag, _NOTHING).get
        state: Hasher = xxhash.xxh3_128(words[: least * size], seed=key.seed)
        intervals = [(least, state, most, at_least, at_most)]  # the words hashed up to the lower end, the bits at both
        while intervals:
            low, state, high, at_low, at_high = intervals.pop()
            if wanted != live:
                at_low &= wanted
                at_high &= wanted
            while at_low != at_high and high - low > 1:
                # Most holders have nothing of most prompts: who has the first block comes first, and rules them out.
                middle, ahead = (low + high) // 2 if low > least else low + 1, state.copy()
                ahead.update(words[low * size : middle * size])
                # Clamped between both ends, so that a page that is not closed cannot make the answer inconsistent.
                at_middle = get(key.name(ahead.digest()), 0) & at_low | at_high
                if at_low != at_middle:
                    intervals.append((low, state, middle, at_low, at_middle))
                low, state, at_low = middle, ahead, at_middle
            if at_low == at_high or not low:
                continue
            ends.append((low, at_low ^ at_high))
            if k is not None and wanted == live:
                ended |= at_low ^ at_high
                holders = ended & furthest
                if holders.bit_count() >= k:
                    wanted = (holders >> Level.DISK - 1) * ALL & ~ended & live
                    bound = max(0, low - 1)
    return ends, bound


def _parts(prefix: Prefix, tables: Tables, live: int) -> Sequence[_Part]:
    """Nearly always one: a depth is named under the key of the segment it lies in, so each is searched by itself."""
    parts: list[_Part] = []
    blocks, low, at_low = prefix.blocks, 0, live
    while (segment := prefix.segment(low + 1)).until_block < blocks:
        high = segment.until_block
        at_high = tables.get(segment.key.tag, _NOTHING).get(prefix.name(high), 0) & at_low
        parts.append((segment, low, high, at_low, at_high))
        low, at_low = high, at_high
    parts.append((segment, low, blocks + 1, at_low, 0))
    return parts
