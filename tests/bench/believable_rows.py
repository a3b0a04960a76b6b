"""What two replays of one trace have in common, as rows: Dynamo's own and ours."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from rich.table import Table

from kvplane.controlplane.replay.run import Floats, Ints

from .printing import plain_table


class Served(msgspec.Struct, frozen=True):
    """What a replay says of each request, in no particular order."""

    ttft_ms: Floats
    e2e_ms: Floats
    prompt_tokens: Ints
    cached_tokens: Ints
    output_tokens: Ints

    @property
    def figures(self) -> Mapping[str, float]:
        """What is compared, by name."""
        several = self.output_tokens > 1
        behind_ms = (self.e2e_ms - self.ttft_ms)[several] / (self.output_tokens[several] - 1)
        return {
            "reuse": float(self.cached_tokens.sum() / self.prompt_tokens.sum()),
            "ttft_mean_ms": float(self.ttft_ms.mean()),
            "ttft_p99_ms": float(np.percentile(self.ttft_ms, 99)),
            "e2e_mean_ms": float(self.e2e_ms.mean()),
            "tpot_mean_ms": float(behind_ms.mean()),
        }


class BelievableRow(msgspec.Struct, frozen=True):
    """One line of the result: a figure of our policy beside the same of Dynamo's router mode."""

    policy: str
    router_mode: str
    figure: str
    ours: float
    dynamo: float  # the mean of its runs
    dynamo_low: float  # the least of them
    dynamo_high: float
    ratio: float  # ours to the mean of Dynamo's


def believable_rows(policy: str, router_mode: str, ours: Served, dynamo: Sequence[Served]) -> list[BelievableRow]:
    """Give a row for each figure; of several runs of Dynamo's, how far they lie apart."""
    theirs = [run.figures for run in dynamo]
    rows = []
    for figure, mine in ours.figures.items():
        found = [figures[figure] for figures in theirs]
        mean = sum(found) / len(found)
        ratio = mine / mean if mean else float(mine == mean)
        rows.append(BelievableRow(policy, router_mode, figure, mine, mean, min(found), max(found), ratio))
    return rows


def believable_table(rows: Sequence[BelievableRow]) -> Table:
    """All rows; where Dynamo's runs differ, from the least to the most."""
    columns = ("policy", "its router mode", "figure", "kvplane", "Dynamo", "its runs", "ratio")
    texts = ("policy", "its router mode", "figure")
    table = plain_table("One trace, replayed by kvplane and by Dynamo", None, columns, texts)
    last = None
    for row in rows:
        if last is not None and last != row.policy:
            table.add_section()
        last = row.policy
        digits = 5 if row.figure == "reuse" else 2
        spread = (
            "" if row.dynamo_low == row.dynamo_high else f"{row.dynamo_low:.{digits}f} to {row.dynamo_high:.{digits}f}"
        )
        table.add_row(
            row.policy,
            row.router_mode,
            row.figure,
            f"{row.ours:.{digits}f}",
            f"{row.dynamo:.{digits}f}",
            spread,
            f"{row.ratio:.4f}",
        )
    return table
