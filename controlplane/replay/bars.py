"""What a long command has done so far, on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Tell = Callable[[str, int, int | None], None]


@contextmanager
def bars(wanted: bool) -> Iterator[Tell]:
    """Draw a bar for each thing told of: its name, how much of it is done, of how much.

    None is drawn where it is not `wanted`, or standard error is no terminal.
    """
    console = Console(stderr=True)
    if not (wanted and console.is_terminal):
        yield lambda name, done, total: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        tasks = {}

        def tell(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done)

        yield tell
