"""Processes of their own, so that what one of them does is measured alone."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Concatenate, ParamSpec, TypeVar

from .errors import BenchError

P = ParamSpec("P")
T = TypeVar("T")

ANSWER_S = 120.0
_WORK_S = 1200.0
_END_S = 15.0
_SPAWN = get_context("spawn")  # a fork would inherit memory, and with it a size


def in_child(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a module's function in a fresh process. Raises `BenchError` if it did, or did not return."""
    with child(_work, work, args, kwargs) as process:
        done: T = process.heard(_WORK_S)
        return done


@contextmanager
def child(main: Callable[Concatenate[Connection, P], None], *args: P.args, **kwargs: P.kwargs) -> Iterator["Child"]:
    """Run `main` in a fresh process for as long as the context lasts; it ends when its connection does."""
    here, there = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_run, args=(main, there, args, kwargs), daemon=True)
    process.start()
    there.close()
    try:
        yield Child(main.__name__.strip("_"), here)
    finally:
        here.close()
        process.join(_END_S)
        process.terminate()
        process.join(_END_S)
        process.kill()
        process.join()


class Child:
    """The near end: one request, one answer."""

    def __init__(self, name: str, connection: Connection) -> None:
        self._name = name
        self._connection = connection

    def ask(self, request: object, within_s: float = ANSWER_S) -> Any:  # Any: an answer's type is the request's own
        """Raises `BenchError` for an answer that does not come, or is one."""
        try:
            self._connection.send(request)
        except OSError as exc:
            raise BenchError(f"the {self._name} ended early") from exc
        return self.heard(within_s)

    def heard(self, within_s: float) -> Any:  # Any: see ask
        """The next answer."""
        if not self._connection.poll(within_s):
            raise BenchError(f"the {self._name} did not answer within {within_s:.0f} s")
        try:
            answer = self._connection.recv()
        except (EOFError, OSError) as exc:
            raise BenchError(f"the {self._name} ended early") from exc
        if isinstance(answer, BenchError):
            raise answer
        return answer


def _run(main: Callable[..., None], connection: Connection, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Any: what `main` takes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the parent, which then ends the connection
    main(connection, *args, **kwargs)


def _work(connection: Connection, work: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Any: what `work` takes."""
    try:
        connection.send(work(*args, **kwargs))
    except BenchError as exc:
        connection.send(exc)
