"""What decisions cost, as rows and as a table."""

from collections.abc import Sequence

import msgspec
from rich.table import Table

from .printing import plain_table
from .sizes import shown


class DecideRow(msgspec.Struct, frozen=True):
    """One line of the result: process CPU in microseconds. Medians, but for `p99_us`.

    A decision is `p50_us`; part of it are `look_us`, which holds `find_us`, and `choose_us`.
    """

    candidates: int
    distinct_extents: int
    tokens: int
    p50_us: float
    p99_us: float
    find_us: float
    look_us: float
    choose_us: float
    issue_us: float  # the ticket, behind the decision


def decide_table(rows: Sequence[DecideRow]) -> Table:
    """All rows as they are."""
    columns = ("candidates", "extents", "tokens", "p50", "p99", "find", "look", "choose", "issue")
    table = plain_table("CPU of one decision, in us; find is part of look, look and choose of p50", None, columns, ())
    for row in rows:
        times_us = (row.p50_us, row.p99_us, row.find_us, row.look_us, row.choose_us, row.issue_us)
        sizes = (str(row.candidates), str(row.distinct_extents), shown(row.tokens, 1024))
        table.add_row(*sizes, *(f"{time_us:.1f}" for time_us in times_us))
    return table
