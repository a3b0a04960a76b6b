"""What several routers lose against one, as rows and as a table."""

from collections.abc import Sequence

import msgspec
from rich.table import Table

from .printing import plain_table


class RoutersRow(msgspec.Struct, frozen=True):
    """One line of the result: several routers that hear late against one that hears at once."""

    workload: str
    speedup: float
    requests: int
    routers: int
    lag_ms: float
    hit_rate: float
    hit_points: float  # of a hundred, several less one
    hit_points_low: float
    hit_points_high: float
    ttft: float  # mean TTFT, several over one
    ttft_low: float
    ttft_high: float
    met: bool


def routers_table(rows: Sequence[RoutersRow]) -> Table:
    """All rows as they are."""
    columns = ("workload", "routers", "lag", "cached", "points", "several/one TTFT", "")
    table = plain_table("Several routers that hear late, against one without lag", None, columns, ("workload", ""))
    for row in rows:
        table.add_row(
            f"{row.workload} {row.speedup:g}x",
            str(row.routers),
            f"{row.lag_ms:g} ms",
            f"{row.hit_rate:.1%}",
            f"{row.hit_points:+.2f} [{row.hit_points_low:+.2f} {row.hit_points_high:+.2f}]",
            f"{row.ttft:.3f} [{row.ttft_low:.3f} {row.ttft_high:.3f}]",
            "met" if row.met else "MISSED",
        )
    return table
