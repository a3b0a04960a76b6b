"""What befalls replicas in a replay, as a command line says it: `60:slows:3:2`."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

from .fleet import Incident

Kind = Literal["slows", "leaves", "joins"]


class BadIncident(Exception):
    """What cannot happen, or not like that: what was wanted, what came."""


def incidents(texts: Sequence[str], replicas: int, until_ms: float) -> tuple[Incident, ...]:
    """What is to happen, by time, each `SECONDS:leaves|joins|slows:REPLICA[:FACTOR]`. Raises `BadIncident`.

    A replica is there when it slows or leaves, and never the last to leave; one that joins had left or has the number
    after the highest so far. All happens before the last request comes, at `until_ms`.
    """
    found = sorted((_incident(text) for text in texts), key=lambda each: each.at_ms)
    up, there_were = set(range(replicas)), replicas
    for each in found:
        said = f"{each.at_ms / 1e3:g}:{each.kind}:{each.replica}"
        if each.at_ms > until_ms:
            raise BadIncident(f"wanted an incident before the last request, at {until_ms / 1e3:g} s; got {said}")
        if each.kind == "joins":
            if each.replica in up or each.replica > there_were:
                raise BadIncident(f"wanted replica {there_were} to join, or one that left; got {said}")
            up.add(each.replica)
            there_were = max(there_were, each.replica + 1)
            continue
        if each.replica not in up:
            raise BadIncident(f"wanted a replica that is there, of {_listed(up)}; got {said}")
        if each.kind == "leaves":
            up.remove(each.replica)
            if not up:
                raise BadIncident(f"wanted at least one replica to stay; got {said}, the last")
    return tuple(found)


def _incident(text: str) -> Incident:
    wanted = f"wanted SECONDS:leaves|joins:REPLICA or SECONDS:slows:REPLICA:FACTOR; got {text}"
    at, kind, replica, *factor = text.split(":") if text.count(":") >= 2 else ("", "", "")
    for each in get_args(Kind):
        if each == kind and len(factor) == (each == "slows"):
            try:
                found = Incident(float(at) * 1e3, each, int(replica), *map(float, factor))
            except ValueError as exc:
                raise BadIncident(wanted) from exc
            if not (0 <= found.at_ms < math.inf and 0 < found.factor < math.inf):
                raise BadIncident(wanted)
            return found
    raise BadIncident(wanted)


def _listed(replicas: set[int]) -> str:
    return ", ".join(map(str, sorted(replicas)[:16]))
