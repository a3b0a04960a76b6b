"""The published tree vectors of a peer's index; where ours differs on purpose, what a real engine told shows why."""

import struct
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import pytest

from kvplane.directory import Closure, DomainKey, HolderId, Holdings, Prefix, Segment, domain_key, holder_id
from kvplane.tests.captures import captured
from kvplane.workers.engine import BlockHash, Cleared, Removed, Stored

W0, W1 = holder_id("w0"), holder_id("w1")
SALT = "ab" * 32


def key_of(salt: str) -> DomainKey:
    return domain_key(salt, "model", "", 4)


def words(*contents: int) -> bytes:
    """One block of four tokens for each content."""
    return b"".join(struct.pack("<4I", content, 0, 0, 0) for content in contents)


class Index:
    """A closure for each worker, and the table they feed."""

    def __init__(self) -> None:
        self._trees = {worker: Closure(key_of, 4) for worker in (W0, W1)}
        self._table = Holdings()

    def store(self, worker: HolderId, hashes: Sequence[int], parent: int | None = None) -> None:
        salt = SALT if parent is None else None
        self._trees[worker].store(hashes, parent, words(*(block - 100 for block in hashes)), "gpu", salt)
        self._tell(worker)

    def remove(self, worker: HolderId, block: int) -> None:
        self._trees[worker].remove([block], "gpu")
        self._tell(worker)

    def clear(self, worker: HolderId) -> None:
        self._trees[worker].clear()
        self._tell(worker)

    def find(self, *contents: int, salt: str = SALT) -> Mapping[HolderId, int]:
        prompt = Prefix(words(*contents, 0), 4, [Segment(key_of(salt), 1 << 30)])
        return {worker: gpu for worker, (gpu, _, _) in self._table.find(prompt).table().items()}

    def _tell(self, worker: HolderId) -> None:
        self._table.apply(worker, self._trees[worker].drain())


@pytest.fixture
def index() -> Index:
    """w0 has 101, 102, 103 and w1 has 101, 102; block 100 + n holds content n."""
    index = Index()
    index.store(W0, [101, 102, 103])
    index.store(W1, [101, 102])
    return index


def test_each_worker_overlaps_as_far_as_it_stored(index: Index) -> None:
    assert index.find(1, 2, 3) == {W0: 3, W1: 2}


def test_an_overlap_ends_at_the_first_difference(index: Index) -> None:
    assert index.find(1, 9, 3) == {W0: 1, W1: 1}


def test_a_removal_in_the_middle_ends_the_overlap_there(index: Index) -> None:
    index.remove(W0, 102)

    assert index.find(1, 2, 3) == {W0: 1, W1: 2}


def test_nothing_is_found_under_an_unknown_parent(index: Index) -> None:
    index.store(W1, [103], parent=999)

    assert index.find(1, 2, 3) == {W0: 3, W1: 2}
    assert index.find(3) == {}


def test_a_cleared_worker_overlaps_with_nothing(index: Index) -> None:
    index.clear(W0)

    assert index.find(1, 2, 3) == {W1: 2}


def test_another_tenant_finds_nothing_of_the_same_tokens(index: Index) -> None:
    assert index.find(1, 2, 3, salt="cd" * 32) == {}


def test_a_block_that_returns_brings_back_what_stands_behind_it(index: Index) -> None:
    """The peer says 2: it has dropped 103 with 102. The engine never evicted 103, and will not store it again."""
    index.remove(W0, 102)
    index.store(W0, [102], parent=101)

    assert index.find(1, 2, 3) == {W0: 3, W1: 2}


def test_a_block_stored_twice_and_removed_once_is_still_there(index: Index) -> None:
    """The peer says 1: a second store is nothing to it. The engine has two copies, and will remove each."""
    index.store(W1, [102], parent=101)
    index.remove(W1, 102)

    assert index.find(1, 2, 3) == {W0: 3, W1: 2}


def test_a_real_engine_removes_a_block_as_often_as_it_stored_it() -> None:
    """So after the first removal there is a copy left: the second removal is of it, and no store lies between them."""
    tree, copies, left, proofs = Closure(key_of, 32), Counter[BlockHash](), set[BlockHash](), 0
    for event in captured("vllm_events.bin"):
        before = tree.blocks
        match event:
            case Stored():
                tree.store(event.hashes, event.parent, event.words, event.tier, event.salt)
                copies.update(event.hashes)
                left.difference_update(event.hashes)
            case Removed(hashes=(block,)):
                tree.remove(event.hashes, event.tier)
                copies[block] -= 1
                if copies[block]:
                    assert tree.blocks == before
                    left.add(block)
                elif block in left:
                    assert tree.blocks < before
                    proofs += 1
            case Cleared():
                tree.clear()
                copies.clear()
                left.clear()

    assert proofs >= 5


def test_a_real_engine_has_a_child_through_the_absence_of_its_parent_and_does_not_tell_it_again() -> None:
    """Each was stored once, before its parent, and removed long after the parent came: it was there all the time."""
    copies, joined, proofs = Counter[BlockHash | None](), set[BlockHash](), 0
    waiting = defaultdict[BlockHash | None, set[BlockHash]](set)
    for event in captured("vllm_events_offload.bin"):
        match event:
            case Stored(tier="cpu", hashes=(block,), parent=parent):
                copies[block] += 1
                joined |= {child for child in waiting.pop(block, set()) if copies[child]}
                if not copies[parent]:
                    waiting[parent].add(block)
            case Removed(tier="cpu"):
                for block in event.hashes:
                    proofs += block in joined and copies[block] == 1
                    copies[block] -= 1
                    joined.discard(block)

    assert proofs >= 100
