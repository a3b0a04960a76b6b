"""What keeping a directory costs, as rows and as a table."""

from collections.abc import Iterator, Sequence

import msgspec
from rich.table import Table

from .peers import left_out
from .printing import plain_table
from .sizes import shown

OURS = "kvplane"
STORE, REMOVE = "store", "remove"


class IngestRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the result; null where an operation has no such figure.

    `blocks`: placed while it was measured. `core_percent`: of one core, all the time. `p50_ms`, `p99_ms`: of a delay.
    """

    impl: str
    op: str
    replicas: int
    blocks: int
    blocks_per_cpu_s: float | None
    bytes_per_block: float | None
    core_percent: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None


def ingest_table(rows: Sequence[IngestRow]) -> Table:
    """All rows; each peer's rate is compared with ours at the same work."""
    columns = ("op", "impl", "fleet", "blocks", "figures")
    table = plain_table("Keeping the directory", left_out(), columns, texts=("op", "impl", "figures"))
    ours = {_work(row): row.blocks_per_cpu_s for row in rows if row.impl == OURS}
    for row in rows:
        beside = None if row.impl == OURS else ours.get(_work(row))
        table.add_row(row.op, row.impl, str(row.replicas), shown(row.blocks, 1000), ", ".join(_figures(row, beside)))
    return table


def _figures(row: IngestRow, ours: float | None) -> Iterator[str]:
    if row.blocks_per_cpu_s is not None:
        yield f"{row.blocks_per_cpu_s / 1e6:.2f}M/CPU s"
        if ours is not None:
            yield f"ours {ours / row.blocks_per_cpu_s:.1f}x"
    if row.bytes_per_block is not None:
        yield f"{row.bytes_per_block:.1f} B/block"
    if row.core_percent is not None:
        yield f"{row.core_percent:.1f}% of a core"
    if row.p50_ms is not None and row.p99_ms is not None:
        yield f"p50 {row.p50_ms:.2f} ms, p99 {row.p99_ms:.2f} ms"


def _work(row: IngestRow) -> tuple[str, int, int]:
    return row.op, row.replicas, row.blocks
