"""Our own table, asked in three ways: the eight best holders, the deepest, all."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from kvplane.directory import Changes, HolderId, Holdings, Level, Overlap, Prefix, Segment, holder_id

from .forest import BLOCK_TOKENS, KEY, Prompt, Stretch
from .index import Apply, Look

BEST8, DEEPEST, ALL = "kvplane_best8", "kvplane_deepest", "kvplane_all"

_Said = Sequence[tuple[HolderId, tuple[Changes, ...]]]
_ASKED = {BEST8: 8, DEEPEST: 1, ALL: None}


class KvplaneIndex:
    """`Holdings`, without the pages that fill it in a router."""

    def __init__(self) -> None:
        self.holdings = Holdings()

    def store(self, stretches: Iterable[Stretch]) -> Apply:
        return partial(self._apply, _said(stretches, Level.GPU))

    def remove(self, stretches: Iterable[Stretch]) -> Apply:
        return partial(self._apply, _said(stretches, Level.NONE))

    def looks(self) -> Mapping[str, Look]:
        return {impl: Look(partial(self._ask, k), partial(_right, k)) for impl, k in _ASKED.items()}

    def close(self) -> None:
        """Nothing runs."""

    def _apply(self, said: _Said) -> None:
        for holder, changes in said:
            self.holdings.apply(holder, changes)

    def _ask(self, k: int | None, prompts: Sequence[Prompt]) -> Sequence[object]:
        find = self.holdings.find
        return [_table(find(_prefix(prompt), k)) for prompt in prompts]


def holder_of(replica: int) -> HolderId:
    """A replica's name in the directory."""
    return holder_id(f"r-{replica:04d}")


def packed(stretch: Stretch) -> bytes:
    """The names of a stretch as they travel."""
    return array("Q", stretch.names).tobytes()


def _said(stretches: Iterable[Stretch], level: Level) -> _Said:
    said: list[tuple[HolderId, tuple[Changes, ...]]] = []
    for stretch in stretches:
        changes = (Changes(KEY.tag, level, packed(stretch)),)
        said += [(holder_of(replica), changes) for replica in stretch.replicas]
    return said


def _prefix(prompt: Prompt) -> Prefix:
    return Prefix(prompt.words, BLOCK_TOKENS, (Segment(KEY, len(prompt.words)),))


def _table(overlap: Overlap) -> Mapping[HolderId, tuple[int, int, int]]:
    return overlap.table()


def _right(k: int | None, answer: object, prompt: Prompt) -> bool:
    """All that was asked for is there and exact, and nothing that is there is too deep."""
    assert isinstance(answer, dict)
    truth = {holder_of(replica): blocks for replica, blocks in prompt.extents.items()}
    found = {holder: extents[0] for holder, extents in answer.items()}
    best = sorted(truth.values(), reverse=True)[:k]
    return sorted(found.values(), reverse=True)[: len(best)] == best and found.items() <= truth.items()
