"""Work in processes of its own, and what becomes of it."""

import os
from multiprocessing.connection import Connection

import pytest

from kvplane.tests.bench.child import child, in_child
from kvplane.tests.bench.errors import BenchError


def doubled(number: int) -> tuple[int, int]:
    return 2 * number, os.getpid()


def failing() -> None:
    raise BenchError("it failed, as it was asked to")


def dying() -> None:
    os._exit(3)


def echo(connection: Connection) -> None:
    while (request := connection.recv()) is not None:
        connection.send(request)


def test_work_is_done_in_another_process() -> None:
    found, pid = in_child(doubled, 21)

    assert found == 42
    assert pid != os.getpid()


def test_what_failed_there_fails_here() -> None:
    with pytest.raises(BenchError, match="as it was asked to"):
        in_child(failing)


def test_a_process_that_dies_is_an_error() -> None:
    with pytest.raises(BenchError, match="ended early"):
        in_child(dying)


def test_a_process_that_is_silent_is_an_error() -> None:
    with child(echo) as process:
        assert process.ask("hello") == "hello"
        with pytest.raises(BenchError, match="did not answer within 0 s"):
            process.heard(0.1)
        assert process.ask("still there") == "still there"
        with pytest.raises(BenchError, match="ended early"):
            process.ask(None)
