"""What tiers are worth, as rows and as a table."""

from collections.abc import Sequence

import msgspec
from rich.table import Table

from .printing import plain_table


class TierRow(msgspec.Struct, frozen=True):
    """One run. `output` is every token that was answered, in order, and is left out once it has been compared."""

    tiers: str
    gpu_blocks: int
    cpu_blocks: int
    disk_blocks: int
    working_set: int
    cached_tokens: int
    prompt_tokens: int
    ttft_p50_ms: float
    ttft_p90_ms: float
    output: tuple[int, ...]
    spoilt_files: int
    compute_us: float | None  # a token, as are the next two; None: never done
    cpu_us: float | None
    disk_us: float | None
    hit_ratio: float = 1.0  # over that of the run it is held against
    identical: bool = True

    @property
    def hit_share(self) -> float:
        return self.cached_tokens / self.prompt_tokens

    def beside(self, first: "TierRow") -> "TierRow":
        ratio = self.cached_tokens / max(1, first.cached_tokens)
        return msgspec.structs.replace(self, hit_ratio=ratio, identical=self.output == first.output)


def tiers_table(rows: Sequence[TierRow]) -> Table:
    """All rows as they are."""
    columns = ("tiers", "gpu", "cpu", "disk", "cached", "of gpu's", "TTFT p50 ms", "p90", "output", "spoilt")
    caption = (
        f"Blocks of each tier, for a working set of {rows[0].working_set}; a token costs {_us(rows, 'compute_us')} us"
        f" to compute, {_us(rows, 'cpu_us')} to fetch from memory and {_us(rows, 'disk_us')} more from disk."
    )
    table = plain_table("One GPU tier, with and without tiers below it", caption, columns, ("tiers", "output"))
    for row in rows:
        table.add_row(
            row.tiers,
            str(row.gpu_blocks),
            str(row.cpu_blocks),
            str(row.disk_blocks),
            f"{row.hit_share:.1%}",
            f"{row.hit_ratio:.2f}",
            f"{row.ttft_p50_ms:.1f}",
            f"{row.ttft_p90_ms:.1f}",
            "identical" if row.identical else "DIFFERS",
            str(row.spoilt_files),
        )
    return table


def _us(rows: Sequence[TierRow], name: str) -> str:
    """What the last run that measured it says."""
    measured = [us for row in rows if (us := getattr(row, name)) is not None]
    return f"{measured[-1]:.1f}" if measured else "?"
