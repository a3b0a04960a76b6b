"""How policies compare on one workload, as rows and as a table: ours, each peer's best setting, the oracle."""

from collections.abc import Sequence

import msgspec
from rich.table import Table

from kvplane.controlplane.replay.compare import Comparison, compare
from kvplane.controlplane.replay.run import Run
from kvplane.controlplane.replay.summary import summarise

from .printing import plain_table
from .workloads import Part

ROUND_ROBIN = "round_robin"
MUST, MUST_P99 = 1.00, 1.05  # ours over the best peer's, of mean TTFT and of its 99th percentile
GOAL, GOAL_OF_ORACLE = 0.92, 0.95  # the same of mean TTFT, and our hit rate over the oracle's


class Judged(msgspec.Struct, frozen=True):
    """One policy on one workload: `ttft` and `p99` are ours over its, `hit_points` ours less its; None for ours."""

    policy: str
    setting: str
    settings_tried: int
    ttft_mean_ms: float
    ttft_p90_ms: float
    ttft_p99_ms: float
    hit_rate: float
    ttft: Comparison | None
    p99: Comparison | None
    hit_points: Comparison | None


class RoutingRow(msgspec.Struct, frozen=True):
    """One workload at one speed. `must` and `goal` say whether ours is as good as is asked, against the best peer."""

    workload: str
    speedup: float
    requests: int
    round_robin_p90_times: float  # what it is at a speedup of 1
    ours: Judged
    best_peer: Judged  # the one of least mean TTFT
    oracle: Judged
    peers: Sequence[Judged]
    hit_rate_of_oracle: float
    must: bool
    goal: bool


def judged(policy: str, setting: str, tried: int, run: Run, ours: Run | None) -> Judged:
    """Sum up a run, and compare ours with it."""
    summary = summarise(run)
    return Judged(
        policy,
        setting,
        tried,
        summary.ttft_mean_ms,
        summary.ttft_p90_ms,
        summary.ttft_p99_ms,
        summary.hit_rate,
        compare([ours], [run], "ttft_mean_ms") if ours else None,
        compare([ours], [run], "ttft_p99_ms") if ours else None,
        compare([ours], [run], "hit_rate") if ours else None,
    )


def routing_row(part: Part, ours: Judged, peers: Sequence[Judged], oracle: Judged, p90_at_1x_ms: float) -> RoutingRow:
    """Say how ours stands to the best of the peers, one of which takes turns, and to the oracle."""
    best = min(peers, key=lambda peer: peer.ttft_mean_ms)
    turns = next(peer for peer in peers if peer.policy == ROUND_ROBIN)
    assert best.ttft is not None
    assert best.p99 is not None
    of_oracle = ours.hit_rate / oracle.hit_rate if oracle.hit_rate else 1.0
    return RoutingRow(
        workload=part.name,
        speedup=part.speedup,
        requests=part.requests,
        round_robin_p90_times=turns.ttft_p90_ms / p90_at_1x_ms,
        ours=ours,
        best_peer=best,
        oracle=oracle,
        peers=peers,
        hit_rate_of_oracle=of_oracle,
        must=best.ttft.ratio <= MUST and best.p99.ratio <= MUST_P99,
        goal=best.ttft.ratio <= GOAL and best.ttft.high < 1 and of_oracle >= GOAL_OF_ORACLE,
    )


def routing_table(rows: Sequence[RoutingRow]) -> Table:
    """For each workload a table of its own: ours, the peers from the best on, and the oracle."""
    tables = Table.grid()
    tables.add_row(
        "Ours at its defaults, every peer at the best of its settings, all cold. "
        f"Must: mean TTFT at most {MUST:.2f} of the best peer's, p99 at most {MUST_P99:.2f}. "
        f"Goal: mean at most {GOAL} and for sure below 1, and {GOAL_OF_ORACLE:.0%} of the oracle's hit rate."
    )
    for row in rows:
        tables.add_row(_policies(row))
    return tables


def _policies(row: RoutingRow) -> Table:
    verdict = "goal met" if row.goal and row.must else "must met" if row.must else "MISSED"
    title = f"\n{row.workload} {row.speedup:g}x, {row.requests} requests: {verdict}"
    caption = (
        f"best peer: {row.best_peer.setting}; cached: {row.hit_rate_of_oracle:.1%} of the oracle's; "
        f"round robin's p90: {row.round_robin_p90_times:.2f} times that at 1x"
    )
    columns = ("policy", "TTFT ms", "p90", "p99", "cached", "ours/its TTFT", "p99")
    table = plain_table(title, caption, columns, ("policy",))
    for each in (row.ours, *sorted(row.peers, key=lambda peer: peer.ttft_mean_ms), row.oracle):
        table.add_row(
            each.policy,
            f"{each.ttft_mean_ms:.1f}",
            f"{each.ttft_p90_ms:.0f}",
            f"{each.ttft_p99_ms:.0f}",
            f"{each.hit_rate:.1%}",
            interval_shown(each.ttft),
            "" if each.p99 is None else f"{each.p99.ratio:.3f}",
        )
    return table


def interval_shown(found: Comparison | None) -> str:
    """A ratio and its interval."""
    return "" if found is None else f"{found.ratio:.3f} [{found.low:.3f} {found.high:.3f}]"
