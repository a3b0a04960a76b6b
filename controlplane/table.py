"""Decisions as a table for the eye."""

from collections.abc import Sequence
from datetime import datetime

from rich import box
from rich.console import Console
from rich.table import Table

from .decisions import DecisionRow

_COLUMNS = ("time", "id", "tenant", "replica", "cached", "TTFT", "reason")
_ID_DIGITS = 8  # enough for --id


def show_decisions(rows: Sequence[DecisionRow], console: Console) -> None:
    """The latest first. cached: tokens as predicted, where the engine reported others these too, of the prompt's."""
    table = Table(title=f"{len(rows)} decisions", title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column == "TTFT" else "left", no_wrap=column != "reason")
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table)
    console.print("kvplane decisions --id ID explains one")


def _cells(row: DecisionRow) -> Sequence[str]:
    wrong = f" not {row.actual_cached_tokens}" if row.prediction_error else ""
    return (
        datetime.fromtimestamp(row.at_ns / 1e9).strftime("%H:%M:%S"),
        row.id[:_ID_DIGITS],
        row.tenant,
        row.served_by or row.chosen or "-",
        f"{row.predicted_cached_tokens}{wrong}/{row.prompt_tokens}",
        "-" if row.actual_ttft_ms is None else f"{row.actual_ttft_ms:.0f} ms",
        row.reason if row.finish in ("stop", "length", None) else f"{row.reason}; {row.finish}",
    )
