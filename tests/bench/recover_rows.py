"""What came of each fault, as rows and as a table."""

from collections.abc import Sequence

import msgspec
from rich.table import Table

from .printing import plain_table


class RecoverRow(msgspec.Struct, frozen=True):
    """One line of the result.

    `seconds`: until all was as before, `exact` if it was, down to each name. Of the `requests` made meanwhile,
    `failed_requests` got no answer, and `lost_hits` found less cache than was there. Requests are look-ups, except
    where a replica is killed: there they are HTTP.
    """

    event: str
    seconds: float
    exact: bool
    failed_requests: int
    lost_hits: int
    requests: int


def recover_table(rows: Sequence[RecoverRow]) -> Table:
    """All rows."""
    columns = ("event", "seconds", "exact", "requests", "failed", "lost hits")
    table = plain_table("What dies costs cache hits at most, never requests", None, columns, texts=("event",))
    for row in rows:
        exact = "yes" if row.exact else "NO"
        table.add_row(
            row.event, f"{row.seconds:.2f}", exact, str(row.requests), str(row.failed_requests), str(row.lost_hits)
        )
    return table
