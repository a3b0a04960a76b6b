"""What the operator alone sees of a request: where it was placed, behind how many, how long that took."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..decisions import DecisionRow
from .errors import AuditFailed

_TRIES = 120
_PAUSE_S = 0.25

Find = Callable[[], Sequence[DecisionRow]]


@dataclass(frozen=True, slots=True)
class Placement:
    """One request, by the store of decisions."""

    replica: str
    queue: int  # requests that the router knew of at the replica it chose
    server_ttft_ms: float  # as the replica measured it


def placements(find: Find, ids: Sequence[str], sleep: Callable[[float], None]) -> Mapping[str, Placement]:
    """Look requests up as soon as their outcomes are there, for half a minute. Raises `AuditFailed`."""
    for _ in range(_TRIES):
        rows = {row.id: row for row in find()}
        found = {id: placed for id in ids if id in rows and (placed := _placement(rows[id]))}
        if len(found) == len(set(ids)):
            return found
        sleep(_PAUSE_S)
    raise AuditFailed(
        f"{len(set(ids)) - len(found)} of {len(set(ids))} requests have no placement in the store of decisions; is it"
        " this application's, does kvplane route, and does tracing.retention_rows leave room for two spans a request?"
    )


def _placement(row: DecisionRow) -> Placement | None:
    chosen = next((each for each in row.candidates if each.replica == row.chosen), None)
    if chosen is None or row.actual_ttft_ms is None:
        return None
    return Placement(row.served_by or chosen.replica, chosen.waiting_sequences + chosen.ongoing, row.actual_ttft_ms)
