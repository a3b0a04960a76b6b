"""How benchmarks print what they found, and how they fail."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, TypeVar

import msgspec
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .errors import BenchError

R = TypeVar("R")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for a machine.")]


def plain_table(title: str, caption: str | None, columns: Sequence[str], texts: Sequence[str]) -> Table:
    """A table with little around it; columns of numbers are flush right, and no cell loses what does not fit."""
    caption_text = None if caption is None else Text(caption)  # as it stands: it may have brackets
    table = Table(title=title, caption=caption_text, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.title_justify = table.caption_justify = "left"
    for column in columns:
        table.add_column(column, justify="left" if column in texts else "right", overflow="fold")
    return table


@contextmanager
def errors_told() -> Iterator[None]:
    """Print what went wrong as it stands, and end with code 1."""
    try:
        yield
    except BenchError as exc:
        typer.secho(f"kvplane bench: {exc}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from exc


def show(rows: Sequence[R], table_of: Callable[[Sequence[R]], Table], as_json: bool) -> None:
    """Print all rows, for a machine or for people."""
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
    else:
        Console().print(table_of(rows))
