"""Name epochs: while names change from one epoch to the next, each page is looked up in the epoch it is written in."""

from dataclasses import dataclass

from .holdings import Holdings
from .overlap import Overlap
from .prefix import Prefix, Segment


@dataclass(frozen=True, slots=True)
class NameEpochs:
    """The epoch whose names pages tell and, while a rotation lasts, the one that some pages are still written in."""

    present: int = 0
    ending: int | None = None


class EpochHoldings(Holdings):
    """Holdings whose pages are all in one name epoch or, during a rotation, each in one of two.

    A page goes from one epoch to the next at once: what it says is replaced as a whole. So a look-up in each of the two
    finds every holder, and neither the table nor a page grows. A rotation costs a second look-up while it lasts.
    Prefixes come under keys of any epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epochs = NameEpochs()

    def find(self, prefix: Prefix, k: int | None = None) -> Overlap:
        """As `Holdings.find`, in every epoch that pages are written in."""
        found = super().find(_in_epoch(prefix, self.epochs.present), k)
        if self.epochs.ending is None:
            return found
        return _deeper(found, super().find(_in_epoch(prefix, self.epochs.ending), k))


def _in_epoch(prefix: Prefix, epoch: int) -> Prefix:
    segments = tuple(Segment(segment.key.in_epoch(epoch), segment.until_block) for segment in prefix.segments)
    return Prefix(prefix.words, prefix.block_tokens, segments)


def _deeper(one: Overlap, other: Overlap) -> Overlap:
    """The greater extent of the two, for each holder and level."""
    if not one.ends or not other.ends:
        return one if one.ends else other
    ends: dict[int, int] = {}
    told = 0
    for blocks, bits in sorted((*one.ends, *other.ends), reverse=True):
        ends[blocks] = ends.get(blocks, 0) | bits & ~told
        told |= bits
    return Overlap([end for end in ends.items() if end[1]], one.slots, max(one.bound, other.bound))
