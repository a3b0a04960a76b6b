"""How soon a policy is as good as one that knew, as rows and as a table."""

from collections.abc import Sequence
from itertools import groupby

import msgspec
from rich.table import Table

from .printing import plain_table


class LearningRow(msgspec.Struct, frozen=True):
    """One line of the result: mean TTFT of ours over the reference's, or how many decisions ours took to be as good."""

    check: str
    workload: str
    speedup: float
    reference: str
    decisions: int  # that are compared
    ratio: float
    low: float
    high: float
    at_most: float
    met: bool
    recovered_after: int | None = None  # decisions behind a change; None: never, or there was none
    worst: float | None = None  # of the rolling means behind a change, the highest over the reference's


def learning_table(rows: Sequence[LearningRow]) -> Table:
    """For each workload a table of its own."""
    tables = Table.grid()
    tables.add_row("Mean TTFT over that of one that knew; after: decisions from a change until it is as good.")
    for (workload, speedup), its in groupby(rows, key=lambda row: (row.workload, row.speedup)):
        tables.add_row(_checks(f"\n{workload} {speedup:g}x", list(its)))
    return tables


def _checks(title: str, rows: Sequence[LearningRow]) -> Table:
    columns = ("check", "against", "of", "ours/its TTFT", "worst", "after", "at most")
    table = plain_table(title, None, columns, ("check", "against"))
    for row in rows:
        after = "never" if row.recovered_after is None else str(row.recovered_after)
        table.add_row(
            row.check,
            row.reference,
            str(row.decisions),
            f"{row.ratio:.3f} [{row.low:.3f} {row.high:.3f}]",
            "" if row.worst is None else f"{row.worst:.2f}",
            "" if row.worst is None else after,
            f"{row.at_most:.2f} {'met' if row.met else 'MISSED'}",
        )
    return table
