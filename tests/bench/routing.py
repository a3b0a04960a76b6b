"""The routing benchmark: ours, untuned and cold, against every peer's policy at the best of its settings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from kvplane.controlplane.replay.replayer import ORACLE
from kvplane.controlplane.replay.summary import summarise
from kvplane.controlplane.replay.tuning import settings_worth_trying
from kvplane.policies import PolicyName, PolicySettings

from .errors import BenchError
from .replays import Replay, Replays, say
from .routing_rows import ROUND_ROBIN, RoutingRow, interval_shown, judged, routing_row
from .workloads import Part, fleet_for

WORKLOADS = ("mooncake_conversation_head", "toolagent_like_head", "weka_claude_dev:6000", "mix_dev")
PEERS: Sequence[PolicyName] = (
    "random",
    "round_robin",
    "least_loaded",
    "power_of_two",
    "least_recently_used",
    "longest_prefix",
    "consistent_hash",
    "dynamo",
    "preble",
    "lmetric",
    "smg",
)

_OVERLOADED = 2.0  # as many times round robin's p90 TTFT at a speedup of 1


@dataclass(frozen=True, slots=True)
class Contest:
    """Who is compared, and how fast overloads are looked for."""

    ours: PolicyName
    timing: str
    speedups: Sequence[float]  # rising, above 1
    peers: Sequence[PolicyName] = PEERS


def routing(parts: Sequence[Part], contest: Contest, replays: Replays) -> Iterator[RoutingRow]:
    """Give a row for each trace at its own speed and at its overload, when it is found.

    A third of the trace is for tuning; what is judged is the rest, from empty caches on. Raises `BenchError` before
    anything is judged if no speedup is an overload of some trace.
    """
    judged_on = [(whole, *_speeds(whole, contest, replays)) for whole in parts]
    for whole, overload, p90_at_1x_ms in judged_on:
        for speedup in (1.0, overload):
            yield _row(replace(whole, speedup=speedup), contest, replays, p90_at_1x_ms)


def thirds(whole: Part) -> tuple[Part, Part]:
    """The first third, and the rest."""
    first = whole.requests // 3
    return replace(whole, requests=first), replace(whole, first=whole.first + first, requests=whole.requests - first)


def overload(p90_at_1x_ms: float, p90_ms: Sequence[tuple[float, float]]) -> float | None:
    """The first speedup whose 90th percentile is twice as long or longer; None: none is."""
    return next((speedup for speedup, each in p90_ms if each >= _OVERLOADED * p90_at_1x_ms), None)


def _speeds(whole: Part, contest: Contest, replays: Replays) -> tuple[float, float]:
    """The overload, and round robin's p90 without one."""
    rest = thirds(whole)[1]
    p90_ms: list[tuple[float, float]] = []
    for speedup in (1.0, *contest.speedups):
        at = replace(rest, speedup=speedup)
        run = replays.run([_replay(at, contest, ROUND_ROBIN, PolicySettings(name=ROUND_ROBIN))])[0]
        p90_ms.append((speedup, summarise(run).ttft_p90_ms))
        found = overload(p90_ms[0][1], p90_ms)
        if found is not None:
            say(f"{whole.name}: {found:g}x is the overload, round robin's p90 {p90_ms[-1][1]:.0f} ms")
            return found, p90_ms[0][1]
    told = ", ".join(f"{each:.0f} ms at {speedup:g}x" for speedup, each in p90_ms)
    raise BenchError(f"no speedup of {whole.name} doubles round robin's p90 TTFT: {told}; give greater --speedups")


def _row(whole: Part, contest: Contest, replays: Replays, p90_at_1x_ms: float) -> RoutingRow:
    tuning, rest = thirds(whole)
    settings = {peer: list(settings_worth_trying(peer).items()) for peer in contest.peers}
    best = _tuned(tuning, contest, replays, settings)
    ours = _replay(rest, contest, contest.ours, PolicySettings(name=contest.ours))
    peers = [_replay(rest, contest, label, each) for label, each in best]
    our_run, oracle_run, *runs = replays.run([ours, _replay(rest, contest, ORACLE, None), *peers])
    row = routing_row(
        rest,
        judged(contest.ours, contest.ours, 1, our_run, None),
        [
            judged(peer, label, len(settings[peer]), run, our_run)
            for peer, (label, _), run in zip(contest.peers, best, runs, strict=True)
        ],
        judged(ORACLE, ORACLE, 1, oracle_run, our_run),
        p90_at_1x_ms,
    )
    say(f"{rest.name} {rest.speedup:g}x: TTFT {interval_shown(row.best_peer.ttft)} of {row.best_peer.setting}")
    return row


def _tuned(
    tuning: Part,
    contest: Contest,
    replays: Replays,
    settings: Mapping[PolicyName, Sequence[tuple[str, PolicySettings]]],
) -> list[tuple[str, PolicySettings]]:
    """Each peer's setting of least mean TTFT; one without knobs has nothing to be replayed for."""
    tried = [each for some in settings.values() if len(some) > 1 for each in some]
    runs = replays.run([_replay(tuning, contest, label, each) for label, each in tried])
    ttft_ms = {label: summarise(run).ttft_mean_ms for (label, _), run in zip(tried, runs, strict=True)}
    return [min(some, key=lambda each: ttft_ms.get(each[0], 0.0)) for some in settings.values()]


def _replay(part: Part, contest: Contest, label: str, policy: PolicySettings | None) -> Replay:
    return Replay(f"{part.name} {part.speedup:g}x {label}", part, policy, fleet_for(part, contest.timing))
