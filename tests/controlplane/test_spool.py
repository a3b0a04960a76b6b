"""The spool writes everything in order, never holds up who fills it, and counts what it loses."""

import threading
from collections.abc import Sequence

from kvplane.controlplane.spool import Spool


def nothing() -> None: ...


def test_what_is_put_is_written_in_order_and_in_batches() -> None:
    batches: list[list[int]] = []
    spool: Spool[int] = Spool(lambda batch: batches.append(list(batch)), nothing, batch=4)
    for number in range(10):
        spool.put(number)
    spool.start()

    assert spool.flush(10)
    assert [number for batch in batches for number in batch] == list(range(10))
    assert max(map(len, batches)) == 4
    assert spool.stop(10)


def test_stopping_writes_what_is_left_and_closes_in_the_same_thread() -> None:
    written: list[int] = []
    threads: set[int] = set()

    def write(batch: Sequence[int]) -> None:
        written.extend(batch)
        threads.add(threading.get_ident())

    spool = Spool(write, lambda: threads.add(threading.get_ident()), every_s=3600)
    spool.start()
    for number in range(5000):
        spool.put(number)

    assert spool.stop(10)
    assert written == list(range(5000))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_a_full_spool_drops_and_counts_while_the_writer_is_stuck() -> None:
    written: list[int] = []
    stuck, free = threading.Event(), threading.Event()

    def write(batch: Sequence[int]) -> None:
        stuck.set()
        assert free.wait(10)
        written.extend(batch)

    spool = Spool(write, nothing, limit=3, batch=1)
    spool.put(0)
    spool.start()
    assert stuck.wait(10)
    for number in range(1, 6):
        spool.put(number)

    assert spool.dropped == 2
    assert not spool.flush(0.01)

    free.set()

    assert spool.stop(10)
    assert written == [0, 1, 2, 3]


def test_a_batch_that_cannot_be_written_is_counted_and_the_next_one_goes_through() -> None:
    written: list[int] = []

    def write(batch: Sequence[int]) -> None:
        if 1 in batch:
            raise OSError("disk full")
        written.extend(batch)

    spool = Spool(write, nothing, batch=2)
    for number in range(4):
        spool.put(number)
    spool.start()

    assert spool.stop(10)
    assert (written, spool.dropped) == ([2, 3], 2)


def test_what_comes_after_the_end_is_dropped() -> None:
    spool: Spool[int] = Spool(lambda batch: None, nothing)
    spool.start()
    spool.stop(10)
    spool.put(1)

    assert spool.dropped == 1
