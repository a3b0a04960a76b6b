"""What look-ups cost, as rows and as a table with each peer's cost as a multiple of ours."""

from collections.abc import Sequence

import msgspec
from rich.table import Table

from .kvplane_index import BEST8
from .peers import left_out
from .printing import plain_table
from .sizes import shown


class LookupRow(msgspec.Struct, frozen=True):
    """One line of the result; `cpu_us` is the median process CPU of one look-up, naming or hashing included."""

    impl: str
    replicas: int
    blocks: int
    tokens: int
    cached_percent: int
    distinct_extents: int
    cpu_us: float


def lookup_table(rows: Sequence[LookupRow]) -> Table:
    """All rows, each compared with our eight best of the same workload."""
    columns = ("fleet", "blocks", "tokens", "cached", "extents", "impl", "us", "x")
    table = plain_table("CPU of one look-up; x: as a multiple of kvplane_best8", left_out(), columns, texts=("impl",))
    ours = {_workload(row): row for row in rows if row.impl == BEST8}
    last = None
    for row in rows:
        beside = ours.get(_workload(row))
        if last is not None and last != _workload(row):
            table.add_section()
        last = _workload(row)
        table.add_row(
            str(row.replicas),
            shown(row.blocks, 1000),
            shown(row.tokens, 1024),
            f"{row.cached_percent}%",
            str(row.distinct_extents),
            row.impl,
            f"{row.cpu_us:.{0 if row.cpu_us >= 1000 else 1}f}",
            f"{row.cpu_us / beside.cpu_us:.1f}" if beside else "",
        )
    return table


def _workload(row: LookupRow) -> tuple[int, int, int, int, int]:
    return row.replicas, row.blocks, row.tokens, row.cached_percent, row.distinct_extents
