"""Look-ups that go on, and what they count."""

from array import array
from typing import NoReturn

from kvplane.directory import Changes, HolderId, Holdings, Level, Prefix
from kvplane.tests.bench.forest import KEY, Forest
from kvplane.tests.bench.kvplane_index import KvplaneIndex, holder_of
from kvplane.tests.bench.reading import Watched
from kvplane.tests.bench.watcher import Watcher

FOREST = Forest(replicas=12, blocks=2000)
PROMPT = FOREST.prompt(512, 95, 8, number=0)
assert PROMPT is not None
THERE = {holder_of(replica): blocks for replica, blocks in PROMPT.extents.items()}


class BrokenHoldings(Holdings):
    def find(self, prefix: Prefix, k: int | None = None) -> NoReturn:
        raise RuntimeError("this table is broken")


def filled() -> Holdings:
    index = KvplaneIndex()
    index.store(FOREST.stretches())()
    assert PROMPT is not None
    index.store(PROMPT.stretches)()
    return index.holdings


def looked(holdings: Holdings) -> Watched:
    assert PROMPT is not None
    watcher = Watcher(holdings, [])
    watcher.look(PROMPT.words, THERE)
    return watcher.take()


def test_a_look_up_that_finds_all_loses_nothing() -> None:
    assert looked(filled()) == Watched(asked=1)


def test_a_holder_that_lost_one_block_is_a_lost_hit() -> None:
    assert PROMPT is not None
    holdings, last = filled(), PROMPT.stretches[-1]
    gone = Changes(KEY.tag, Level.NONE, array("Q", last.names[-1:]).tobytes())
    holdings.apply(HolderId(holder_of(last.replicas[0])), (gone,))

    assert looked(holdings) == Watched(asked=1, lost_hits=1)


def test_a_table_that_raises_fails_the_request() -> None:
    assert looked(BrokenHoldings()) == Watched(asked=1, failed=1)


def test_what_was_told_is_not_told_again() -> None:
    watcher = Watcher(Holdings(), [])
    assert PROMPT is not None
    watcher.look(PROMPT.words, THERE)
    watcher.take()

    assert watcher.take() == Watched()
