"""What a run measured, as rows: the median of rounds, one row for each target, body size and concurrency."""

import math
from collections.abc import Sequence
from statistics import median

import msgspec
from rich.table import Table

OURS, BARE = "kvplane", "bare"


class Row(msgspec.Struct, frozen=True):
    """One line of the result; times are what the client waited for the whole answer, in microseconds."""

    target: str
    body_bytes: int
    concurrency: int
    p50_us: float
    p99_us: float
    requests_per_s: float
    mode: str


class Round(msgspec.Struct, frozen=True):
    """One stretch of requests to one target."""

    latencies_us: Sequence[float]
    took_s: float

    @property
    def requests_per_s(self) -> float:
        return len(self.latencies_us) / self.took_s


def row_of(mode: str, target: str, body_bytes: int, concurrency: int, rounds: Sequence[Round]) -> Row:
    """Each figure is the median of its rounds, so that one disturbed round does not count."""
    return Row(
        target=target,
        body_bytes=body_bytes,
        concurrency=concurrency,
        p50_us=round(median(percentile(one.latencies_us, 0.50) for one in rounds), 1),
        p99_us=round(median(percentile(one.latencies_us, 0.99) for one in rounds), 1),
        requests_per_s=round(median(one.requests_per_s for one in rounds), 1),
        mode=mode,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed (nearest rank)."""
    if not values:
        raise ValueError("a percentile needs at least one value; got none")
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def table_of(rows: Sequence[Row]) -> Table:
    """All rows, and for ours its median latency as a multiple of the bare application's."""
    title = "Waiting for a whole answer; ours/bare compares p50"
    table = Table(title=title, title_justify="left")
    for column in ("mode", "body", "at once", "target", "p50 ms", "p99 ms", "req/s", "ours/bare"):
        table.add_column(column, justify="left" if column in ("mode", "target") else "right")
    bare = {_cell(row): row for row in rows if row.target == BARE}
    for row in rows:
        beside = bare.get(_cell(row))
        table.add_row(
            row.mode,
            f"{row.body_bytes / 1024:.0f} KB",
            str(row.concurrency),
            row.target,
            f"{row.p50_us / 1e3:.2f}",
            f"{row.p99_us / 1e3:.2f}",
            f"{row.requests_per_s:.0f}",
            f"{row.p50_us / beside.p50_us:.2f}" if beside and row.target == OURS else "",
        )
    return table


def _cell(row: Row) -> tuple[str, int, int]:
    return row.mode, row.body_bytes, row.concurrency
