"""One decision in words: who held what, what each would have cost, what came of it, what would have changed it."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from ..policies import Candidate, Choice, ReplicaId, UnknownPolicy, cost_unit, ranked
from ..policies import replay as replay_choice
from .decision_row import DecisionRow
from .span_keys import DECLINED

_SHOWN = 6  # candidates in the table, best first
_MOST_WAITING = 1 << 30  # tokens: more work than this changes no choice that less would not


def explain(row: DecisionRow) -> str:
    """Tell one decision in about a dozen lines."""
    return "\n".join((*_heading(row), "", *_table(row), "", *_outcome(row), *_counterfactual(row)))


def _heading(row: DecisionRow) -> Iterator[str]:
    at = datetime.fromtimestamp(row.at_ns / 1e9, UTC).isoformat(sep=" ", timespec="milliseconds")
    yield f"Decision {row.id} of {at.removesuffix('+00:00')} UTC took {row.took_us:,.0f} us, trace {row.trace_id}."
    yield (
        f"{row.tenant} asked {row.model} to continue {_tokens(row.prompt_tokens)} by at most {row.max_tokens:,};"
        f" the directory was {row.directory_age_ms:,.0f} ms old."
    )
    if row.chosen is None:
        yield f"{row.policy} named no replica: {row.reason}."
    else:
        chance = "" if row.propensity in (None, 1.0) else f" (its chance was {row.propensity:.0%})"
        yield f"{row.policy} chose {row.chosen}: {row.reason}{chance}."


def _table(row: DecisionRow) -> Iterator[str]:
    if not row.candidates:
        yield "There was no candidate."
        return
    order = _preference(row)
    width = max(len("replica"), *(len(each.replica) for each in order[:_SHOWN]))
    yield f"    {'replica':{width}}  {'cached':>8}  {'tier':4}  {'waiting':>8}  {'running':>7}  {'cost':>10}"
    for each in order[:_SHOWN]:
        mark = "->" if each.replica == row.chosen else "  "
        cost = f"{row.scores[each.replica]:,.1f} {_unit(row)}" if each.replica in row.scores else "-"
        guess = "" if each.known and each.fresh else "  silent: its load is a guess" if each.known else "  not known"
        yield (
            f" {mark} {each.replica:{width}}  {each.cached_tokens:>8,}  {_tier(each):4}"
            f"  {each.waiting_prefill_tokens:>8,}  {each.running_sequences:>7,}  {cost:>10}{guess}"
        )
    if len(order) > _SHOWN:
        yield f"    and {len(order) - _SHOWN} more that would have cost no less"


def _preference(row: DecisionRow) -> Sequence[Candidate]:
    def key(each: Candidate) -> tuple[bool, float, str]:
        return each.replica != row.chosen, row.scores.get(each.replica, 0.0), each.replica

    return sorted(row.candidates, key=key)


def _outcome(row: DecisionRow) -> Iterator[str]:
    ttft = "" if row.predicted_ttft_ms is None else f" and a first token after {row.predicted_ttft_ms:,.0f} ms"
    if row.chosen is not None:
        coming = f" ({row.expected_cached_tokens:,} of them under way)" if row.expected_cached_tokens else ""
        yield f"Predicted: {row.predicted_cached_tokens:,} cached tokens{coming}{ttft}."
    if row.finish is None:
        yield "Reported: nothing yet."
        return
    if row.finish == DECLINED:
        yield f"{row.served_by} declined it, having more to do than is said above; the request was decided again."
        return
    if row.chosen is not None and row.served_by != row.chosen:
        yield f"It was served by {row.served_by}: {row.chosen} was full or gone by then."
    yield (
        f"Reported:  {row.actual_cached_tokens or 0:,} cached tokens and a first token after"
        f" {row.actual_ttft_ms or 0:,.0f} ms (queue {row.queue_ms or 0:,.0f}, prefill {row.prefill_ms or 0:,.0f});"
        f" {_tokens(row.output_tokens or 0)} in {row.total_ms or 0:,.0f} ms, finish: {row.finish}."
    )


def _counterfactual(row: DecisionRow) -> Iterator[str]:
    if row.chosen is None or len(row.candidates) < 2:
        return
    try:
        again = _replayed(row, row.candidates)
    except UnknownPolicy as exc:
        yield f"It cannot be replayed: {exc}."
        return
    if again.replica != row.chosen:
        yield f"This build would choose {again.replica} for the same numbers, so what would have changed it is unknown."
        return
    runner_up = ranked(again)[1]
    longer, busier = _longer_prefix(row, runner_up), _more_waiting(row)
    if longer is not None:
        yield f"It would have gone to {runner_up} had that held {_tokens(longer, 'more ')} of this prompt."
    if busier is not None:
        yield f"It would have gone elsewhere had {row.chosen} had {_tokens(busier, 'more ')} waiting."
    if longer is None and busier is None:
        yield f"Neither a longer prefix on {runner_up} nor more work on {row.chosen} would have changed it."


def _longer_prefix(row: DecisionRow, runner_up: ReplicaId) -> int | None:
    """Find the fewest further tokens that the runner-up would have had to hold to be chosen; None: no number does."""
    held = next(each for each in row.candidates if each.replica == runner_up)

    def goes_there(more: int) -> bool:
        tokens = held.cached_tokens + more
        longer = replace(held, gpu_tokens=max(held.gpu_tokens, tokens), cpu_tokens=tokens, disk_tokens=tokens)
        return _replayed(row, _with(row, longer)).replica == runner_up

    return _least(goes_there, row.prompt_tokens - 1 - held.cached_tokens)


def _more_waiting(row: DecisionRow) -> int | None:
    """Find the fewest further waiting tokens on the chosen replica that would have sent the request elsewhere."""
    chosen = next(each for each in row.candidates if each.replica == row.chosen)

    def goes_elsewhere(more: int) -> bool:
        busier = replace(chosen, waiting_prefill_tokens=chosen.waiting_prefill_tokens + more)
        return _replayed(row, _with(row, busier)).replica != row.chosen

    return _least(goes_elsewhere, _MOST_WAITING)


def _least(holds: Callable[[int], bool], most: int) -> int | None:
    """Bisect for the least number from 1 to `most` for which something holds that goes on holding."""
    found = bisect_left(range(1, most + 1), True, key=holds) + 1 if most > 0 else 1
    return found if found <= most else None


def _with(row: DecisionRow, changed: Candidate) -> Sequence[Candidate]:
    return [changed if each.replica == changed.replica else each for each in row.candidates]


def _replayed(row: DecisionRow, candidates: Sequence[Candidate]) -> Choice:
    return replay_choice(row.policy, row.basis, row.request, candidates)


def _unit(row: DecisionRow) -> str:
    try:
        return cost_unit(row.policy)
    except UnknownPolicy:
        return ""


def _tier(candidate: Candidate) -> str:
    if candidate.disk_tokens > max(candidate.cpu_tokens, candidate.gpu_tokens):
        return "disk"
    if candidate.cpu_tokens > candidate.gpu_tokens:
        return "cpu"
    return "gpu" if candidate.gpu_tokens else "-"


def _tokens(count: int, more: str = "") -> str:
    return f"{count:,} {more}token{'' if count == 1 else 's'}"
