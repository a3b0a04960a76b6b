"""How often replicas speak: as often as routers that hear all of them can bear."""

from dataclasses import dataclass

_HEARTBEATS_PER_S = 2048  # of the whole fleet, as the next
_BATCHES_PER_S = 20_000
_FASTEST_S, _SLOWEST_S = 0.25, 1.0  # between heartbeats; a router doubts a page that is silent for thrice the slowest


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a replica with nothing to say is silent, and how long it gathers what it has to say."""

    heartbeat_s: float
    gap_s: float  # the least time between two batches


AT_ONCE = Pace(_FASTEST_S, 0.0)


def pace(replicas: int) -> Pace:
    """The pace of each replica of a fleet of this size."""
    heartbeat_s = min(max(_FASTEST_S, replicas / _HEARTBEATS_PER_S), _SLOWEST_S)
    return Pace(heartbeat_s, gap_s=replicas / _BATCHES_PER_S)
