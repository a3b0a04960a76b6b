"""What a flood costs those beside it, as rows and as a table."""

from collections.abc import Sequence

import msgspec
from rich.table import Table

from .printing import plain_table


class FloodRow(msgspec.Struct, frozen=True):
    """One run, held against that of as many routers without a flood."""

    routers: int
    flood: str  # none, unlimited, or the rule it is under
    hit_rate: float  # of the victims, as are the next three
    ttft_ms: float
    hit_ratio: float  # over that without a flood
    ttft_ratio: float
    refused: int  # of the flood's requests
    within: int  # blocks the flood wrote within its limit
    beyond: int  # and beyond it
    allowed: float
    ahead: float
    underpredicted: int
    usable: float
    verdict: str


def flood_table(rows: Sequence[FloodRow]) -> Table:
    """All rows as they are."""
    columns = ("routers", "flood", "cached", "of quiet", "TTFT ms", "x quiet", "refused", "within", "allowed")
    more = ("ahead/unknown", "usable", "beyond", "")
    caption = (
        "The victims' hit rate and mean TTFT; blocks the flood wrote within its limit, of those allowed, and beyond"
    )
    table = plain_table("One tenant at many times its quota", caption, (*columns, *more), ("flood", ""))
    for row in rows:
        limited = row.allowed > 0
        table.add_row(
            str(row.routers),
            row.flood,
            f"{row.hit_rate:.1%}",
            f"{row.hit_ratio:.3f}",
            f"{row.ttft_ms:.1f}",
            f"{row.ttft_ratio:.2f}",
            f"{row.refused:,}",
            f"{row.within:,}" if limited else "",
            f"{row.allowed:,.0f}" if limited else "",
            f"{row.ahead:.0f}/{row.underpredicted}" if limited else "",
            f"{row.usable:.1%}" if limited else "",
            f"{row.beyond:,}",
            row.verdict,
        )
    return table
