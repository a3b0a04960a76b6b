"""What tenants' accounts and limits cost a request, as rows and as a table."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median, quantiles

import msgspec
from rich.table import Table

from .printing import plain_table
from .request_path_ways import Laps

GOAL_US = 150.0
WITHOUT, NO_RULES, LIMITS = "without", "no rules", "limits"
WHOLE = "whole"

_TO_TICKET = ("caller", "admit", "scope", "budget", "appeal", "decide", "issue")
_BEHIND = ("headers", "end")
_COLUMNS = ("fleet", "part", "bare", "free", "limits", "p99", "ready", "+all", "+ready", "trips", "waits")


PARTS: Mapping[str, Sequence[str]] = {
    **{part: (part,) for part in _TO_TICKET},
    "ticket": _TO_TICKET,
    **{part: (part,) for part in _BEHIND},
    WHOLE: (*_TO_TICKET, *_BEHIND),
}


class RequestPathRow(msgspec.Struct, frozen=True):
    """One part of a request, three ways, in microseconds of wall time; None where a way has no such part.

    `ticket` is all until the ticket, `whole` all; `tidy` is what a router does between requests. Round trips are to the
    accounts store, for a thousand requests with all limits, of which so many wait for one in this part, be it another
    request's. `in_hand` are those that wait for none, from key to end. What limits add is told against `without`.
    """

    replicas: int
    distinct_extents: int
    part: str
    without_p50_us: float | None = None
    without_p99_us: float | None = None
    no_rules_p50_us: float | None = None
    no_rules_p99_us: float | None = None
    limits_p50_us: float | None = None
    limits_p99_us: float | None = None
    in_hand_p50_us: float | None = None
    added_p50_us: float | None = None
    added_in_hand_p50_us: float | None = None
    round_trips_per_1000: float = 0.0
    waits_per_1000: float = 0.0


def row_of(replicas: int, extents: int, part: str, measured: Mapping[str, Sequence[Laps]]) -> RequestPathRow:
    """One part of all requests that were measured, by way."""
    inner, limited = PARTS[part], measured[LIMITS]
    without, no_rules, limits = (_p50_p99_us(measured[way], inner) for way in (WITHOUT, NO_RULES, LIMITS))
    in_hand_us, _ = _p50_p99_us([each for each in limited if not any(each.waited.values())], inner)
    trips = sum(each.trips.get(name, 0) for each in limited for name in inner)
    waits = sum(any(each.waited.get(name) for name in inner) for each in limited)
    return RequestPathRow(
        replicas,
        extents,
        part,
        *without,
        *no_rules,
        *limits,
        in_hand_us,
        added_p50_us=_added(limits[0], without[0]),
        added_in_hand_p50_us=_added(in_hand_us, without[0]),
        round_trips_per_1000=round(1000 * trips / len(limited), 1),
        waits_per_1000=round(1000 * waits / len(limited), 1),
    )


def request_path_table(rows: Sequence[RequestPathRow]) -> Table:
    """All rows, and whether what is added is as little as it should be."""
    whole = [row for row in rows if row.part == WHOLE]
    caption = (
        f"All limits add {_most(row.added_p50_us for row in whole)} us at most, "
        f"{_most(row.added_in_hand_p50_us for row in whole)} where nothing is waited for; wanted: {GOAL_US:.0f}"
    )
    title = "A router's part of a request, p50 in us, for fleets of replicas / extents; of 1,000 requests"
    table = plain_table(title, caption, _COLUMNS, ("fleet", "part"))
    for row in rows:
        table.add_row(
            f"{row.replicas}/{row.distinct_extents}",
            row.part,
            *map(_shown, (row.without_p50_us, row.no_rules_p50_us)),
            *map(_shown, (row.limits_p50_us, row.limits_p99_us, row.in_hand_p50_us)),
            *map(_shown, (row.added_p50_us, row.added_in_hand_p50_us)),
            f"{row.round_trips_per_1000:.0f}",
            f"{row.waits_per_1000:.0f}",
        )
    return table


def _most(times_us: Iterable[float | None]) -> str:
    return _shown(max((each for each in times_us if each is not None), default=None))


def _shown(time_us: float | None) -> str:
    return "" if time_us is None else f"{time_us:.0f}" if time_us >= 10 else f"{time_us:.1f}"


def _p50_p99_us(measured: Sequence[Laps], parts: Sequence[str]) -> tuple[float | None, float | None]:
    took_us = [sum(each.took_us.get(part, 0.0) for part in parts) for each in measured]
    if len(took_us) < 2 or not any(took_us):
        return None, None
    return round(median(took_us), 1), round(quantiles(took_us, n=100)[-1], 1)


def _added(with_us: float | None, without_us: float | None) -> float | None:
    return None if with_us is None else round(with_us - (without_us or 0.0), 1)
