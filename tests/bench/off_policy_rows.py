"""How often the truth lies in an estimate's interval, as rows and as a table."""

from collections.abc import Sequence
from itertools import groupby

import msgspec
from rich.table import Table

from .printing import plain_table


class CoverageRow(msgspec.Struct, frozen=True):
    """One estimator of one reward for one pair of policies, over all seeds; widths and errors are means."""

    logging: str
    target: str
    reward: str
    estimator: str
    seeds: int
    decisions: int  # in each log
    floor: float  # of exploration
    differ: float  # share of choices
    covered: float  # share of seeds
    truth: float
    width: float
    error: float  # of the estimate, either way
    doubted: float  # share of seeds in which the estimate says that it is wide on purpose
    as_foretold: float  # share of decisions in which the replica found as much cached as the log offered
    met: bool


def coverage_table(rows: Sequence[CoverageRow]) -> Table:
    """For each pair of policies a table of its own."""
    tables = Table.grid()
    tables.add_row("Truth in the 95 % interval; truth, width and error are means over the seeds.")
    for _, pair in groupby(rows, key=lambda row: (row.logging, row.target)):
        tables.add_row(_estimators(list(pair)))
    return tables


def _estimators(rows: Sequence[CoverageRow]) -> Table:
    pair = rows[0]
    title = f"\n{pair.target}, from {pair.seeds} logs of {pair.decisions} decisions by {pair.logging}"
    caption = (
        f"{pair.differ:.0%} of choices differ; {pair.floor:.0%} explored; {pair.as_foretold:.1%} found cached what was "
        "offered"
    )
    columns = ("reward", "by", "covered", "truth", "width", "error", "doubted", "")
    table = plain_table(title, caption, columns, ("reward", "by", ""))
    for row in rows:
        table.add_row(
            row.reward,
            row.estimator,
            f"{row.covered:.0%}",
            f"{row.truth:.4g}",
            f"{row.width:.4g}",
            f"{row.error:.2g}",
            f"{row.doubted:.0%}",
            "met" if row.met else "MISSED",
        )
    return table
