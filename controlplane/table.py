"""Decisions as a table for the eye."""

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Table

from .decisions import DecisionRow

_COLUMNS = ("time", "id", "tenant", "replica", "reason", "prompt", "predicted", "reported", "TTFT ms", "finish")


def show_decisions(rows: Sequence[DecisionRow], console: Console) -> None:
    """The latest first; tokens cached as predicted beside tokens cached as the engine reported."""
    table = Table(
        title=f"{len(rows)} decisions", title_justify="left", caption="kvplane decisions --id ID explains one"
    )
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column in _COLUMNS[5:9] else "left", no_wrap=column != "reason")
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table)


def _cells(row: DecisionRow) -> Sequence[str]:
    return (
        datetime.fromtimestamp(row.at_ns / 1e9).strftime("%H:%M:%S"),
        row.id,
        row.tenant,
        row.served_by or row.chosen or "-",
        row.reason,
        str(row.prompt_tokens),
        str(row.predicted_cached_tokens),
        _or_dash(row.actual_cached_tokens),
        _or_dash(row.actual_ttft_ms),
        row.finish or "-",
    )


def _or_dash(number: float | None) -> str:
    return "-" if number is None else f"{number:.0f}"
