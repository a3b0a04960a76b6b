"""Finding where each holder's extent of a prompt ends, by divide and conquer over whole-prefix names.

Holdings are closed under prefixes, so who holds depth d only shrinks with d: equal bits at both ends of an interval
prove the whole interval. What it costs follows the number of distinct extents, not of holders.
"""

from collections.abc import Mapping

from .ids import DomainTag, Level
from .masks import ALL, WIDTH, every
from .prefix import Mark, Prefix

Tables = Mapping[DomainTag, Mapping[int, int]]
End = tuple[int, int]  # a depth, and the bits of those whose extent it is

_LEAF = 5  # so many blocks are named faster in a run than by halving: in a run a name costs a fifth of a lone one
_NOTHING: Mapping[int, int] = {}


def ends_of(prefix: Prefix, tables: Tables, live: int, k: int | None) -> tuple[list[End], int]:
    """Each depth at which live bits end, deepest first, and the most blocks that whoever is in none of them can reuse.

    With `k` it stops once the k holders that reach deepest in any tier are known, and follows only those to where
    their nearer tiers end. Costs one pass over the prompt's words, and about log2(blocks) names a distinct extent.
    """
    ends: list[End] = []
    wanted, bound = live, 0
    ended, furthest = 0, every(Level.DISK, live.bit_length() // WIDTH + 1)
    intervals: list[tuple[Mark, int, int, int]] = [(prefix.start, prefix.blocks + 1, live, 0)]
    while intervals:
        low, high, at_low, at_high = intervals.pop()
        if wanted != live:
            at_low &= wanted
            at_high &= wanted
        if at_low == at_high:
            continue
        if high - low.depth > _LEAF:
            middle = low.ahead((low.depth + high) // 2)
            # Clamped between both ends, so that a page that is not closed cannot make the answer inconsistent.
            at_middle = tables.get(middle.segment.key.tag, _NOTHING).get(middle.name, 0) & at_low | at_high
            intervals += (low, middle.depth, at_low, at_middle), (middle, high, at_middle, at_high)
            continue
        found = _leaf(prefix, tables, low, high, at_low, at_high)
        ends += found
        if k is not None and wanted == live:
            for _, bits in found:
                ended |= bits
            holders = ended & furthest
            if holders.bit_count() >= k:
                wanted = (holders >> Level.DISK - 1) * ALL & ~ended & live
                bound = max(0, low.depth - 1)
    return ends, bound


def _leaf(prefix: Prefix, tables: Tables, low: Mark, high: int, at_low: int, at_high: int) -> list[End]:
    """The ends in [low, high), deepest first: every depth is looked at."""
    ends = []
    held = at_low
    depth, segment = low.depth, low.segment
    table = tables.get(segment.key.tag, _NOTHING)
    for name in low.names(high - 1):
        if depth == segment.until_block:
            segment = prefix.segment(depth + 1)
            table = tables.get(segment.key.tag, _NOTHING)
        at = table.get(name, 0) & held | at_high
        if at != held and depth:
            ends.append((depth, held ^ at))
        held = at
        depth += 1
    if held != at_high and depth:
        ends.append((depth, held ^ at_high))
    ends.reverse()
    return ends
