"""How far a run has come: a bar on a terminal, a line every so often elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_LINES = 4  # of a run, where there is no terminal

Advance = Callable[[], None]


@contextmanager
def progress(console: Console, what: str, total: int) -> Iterator[Advance]:
    """Yield what is to be called for each of `total` steps."""
    if not console.is_terminal:
        yield _lines(console, what, total)
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(what, total=total)
        yield lambda: bars.advance(task)


def _lines(console: Console, what: str, total: int) -> Advance:
    began, done = time.monotonic(), 0

    def advance() -> None:
        nonlocal done
        done += 1
        if done * _LINES // total > (done - 1) * _LINES // total:
            console.print(f"{what}: {done} of {total}, {time.monotonic() - began:.0f} s")

    return advance
