"""An audit of a live deployment, from its URL to its verdict."""

import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from ..decisions import DecisionRow, Decisions
from .errors import AuditFailed
from .features import columns
from .parties import Level, Pair
from .placements import placements
from .procedure import Plan, Sample, carry_out
from .verdict import Limits, Report, judge

_ALL = 1 << 40  # rows
_SKEW_S = 60.0  # between the clocks here and at the routers

Told = Callable[[int, int], None]


def audit(
    url: str,
    pairs: Mapping[Level, Pair],
    plan: Plan,
    decisions: Path | None = None,
    limits: Limits | None = None,
    pause_s: float = 0.0,
    told: Told = lambda done, of: None,
) -> Report:
    """Carry the plan out and judge what came of it; placements as well, where the store of decisions is at hand.

    `told` hears how many procedures are done, of how many. Raises `AuditFailed` and `NoDecisions`.
    """
    began_s = time.time()
    samples = _samples(url, pairs, plan, pause_s, told)
    placed = None
    if decisions is not None:
        ids = [reply.decision for sample in samples for reply in (sample.victim, sample.attacker)]
        placed = placements(lambda: _rows(Decisions(decisions), began_s), ids, time.sleep)
    by_level = {level: [sample for sample in samples if sample.level is level] for level in pairs}
    return judge({level: columns(of, placed) for level, of in by_level.items()}, limits)


def _samples(url: str, pairs: Mapping[Level, Pair], plan: Plan, pause_s: float, told: Told) -> Sequence[Sample]:
    if find_spec("httpx") is None:
        raise AuditFailed("the audit also needs httpx: pip install 'kvplane[audit]'")
    from .ask import asking  # below the check, since it imports what is checked; the command line must start without

    with asking(url, pairs[Level.WITHIN].attacker.key) as ask:
        return carry_out(pairs, plan, ask, lambda: time.sleep(pause_s), told)


def _rows(store: Decisions, began_s: float) -> Sequence[DecisionRow]:
    return store.find(last=_ALL, since=began_s - _SKEW_S)
