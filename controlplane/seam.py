"""What Ray's handle calls: maps a ticket's ranks onto the replicas Ray has, and decides nothing.

Ray pickles this module by value and builds the class inside the handle, so it meets the ingress of its process through
`roster_of`, whose module is imported. An exception here would hang the request: no I/O, no look-up that can fail.
"""

import random
from collections.abc import Sequence
from typing import Any

from ray.serve._private.request_router import PowerOfTwoChoicesRequestRouter  # public only by its default
from ray.serve.request_router import FIFOMixin, PendingRequest, ReplicaID, RequestRouter, RunningReplica

from ..workers import Ticket
from .roster import Roster, roster_of

SEAM = "kvplane.controlplane.seam:Seam"
RAYS_OWN = "kvplane.controlplane.seam:RaysOwn"


class Watching:
    """Tells the roster what Ray's request router learns; chooses nothing."""

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        super().update_replicas(replicas)  # type: ignore[misc]  # of the router it is mixed into
        self._roster().update([replica.replica_id.unique_id for replica in replicas])

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        super().on_replica_actor_died(replica_id)  # type: ignore[misc]  # of the router it is mixed into
        self._roster().bury(replica_id.unique_id)

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: object) -> None:
        ticket = _ticket(pending_request)
        if ticket is not None:
            self._roster().sent(ticket.id, replica_id.unique_id)

    def _roster(self) -> Roster:
        return roster_of(self._deployment_id.name)  # type: ignore[attr-defined]  # of the router it is mixed into


class Seam(Watching, FIFOMixin, RequestRouter):  # type: ignore[misc]  # Ray's classes carry no types
    """Ranks of one replica each, so that a tie is never broken towards the first."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        return rank(candidate_replicas, _ticket(pending_request), self._roster())


class RaysOwn(Watching, PowerOfTwoChoicesRequestRouter):  # type: ignore[misc]  # Ray's classes carry no types
    """Ray's default router as it is, watched, so that its choices are written down beside ours."""


def rank(candidates: Sequence[Any], ticket: Ticket | None, roster: Roster) -> list[list[Any]]:
    """The ticket's replicas in its order, then all others shuffled, the dead last: every candidate, once.

    Any: a candidate is Ray's RunningReplica, of which only `replica_id.unique_id` is used.
    """
    by_id = {candidate.replica_id.unique_id: candidate for candidate in candidates}
    ranked = [replica for replica in (ticket.ranks if ticket else ()) if replica in by_id]
    others = [replica for replica in by_id if replica not in ranked]
    random.shuffle(others)
    order = sorted((*ranked, *others), key=roster.is_dead)
    return [[by_id[replica]] for replica in order]


def _ticket(pending: PendingRequest | None) -> Ticket | None:
    first = pending.args[0] if pending is not None and pending.args else None
    return first if isinstance(first, Ticket) else None
