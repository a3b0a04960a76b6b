"""The seam maps ranks onto live candidates and never leaves a request without one."""

from dataclasses import dataclass

import pytest

from kvplane.controlplane.roster import Roster
from kvplane.controlplane.seam import rank
from kvplane.workers import Ticket


@dataclass(frozen=True)
class Id:
    unique_id: str


@dataclass(frozen=True)
class Replica:
    replica_id: Id


def replicas(*names: str) -> list[Replica]:
    return [Replica(Id(name)) for name in names]


def ticket(*ranks: str) -> Ticket:
    return Ticket("d", "r", 1, ranks, "salt", "", 0.0, 1)


def order(candidates: list[Replica], held: Ticket | None, roster: Roster | None = None) -> list[str]:
    ranks = rank(candidates, held, roster or Roster())
    assert all(len(single) == 1 for single in ranks)
    return [single[0].replica_id.unique_id for single in ranks]


def test_the_tickets_order_comes_first_and_every_candidate_is_ranked_once() -> None:
    ordered = order(replicas("a", "b", "c", "d"), ticket("c", "a"))

    assert ordered[:2] == ["c", "a"]
    assert sorted(ordered) == ["a", "b", "c", "d"]


def test_a_replica_that_has_vanished_is_passed_over() -> None:
    assert order(replicas("b"), ticket("gone", "b")) == ["b"]


@pytest.mark.parametrize("held", [None, ticket()])
def test_without_ranks_every_candidate_is_tried_in_any_order(held: Ticket | None) -> None:
    firsts = {order(replicas("a", "b", "c"), held)[0] for _ in range(100)}

    assert firsts == {"a", "b", "c"}


def test_a_dead_replica_stands_last_even_if_the_ticket_prefers_it() -> None:
    roster = Roster()
    roster.update(["a", "b"])
    roster.bury("a")

    assert order(replicas("a", "b"), ticket("a", "b"), roster) == ["b", "a"]


def test_only_dead_replicas_are_still_ranked_so_that_no_request_hangs() -> None:
    roster = Roster()
    roster.update(["a"])
    roster.bury("a")

    assert order(replicas("a"), ticket("a"), roster) == ["a"]


def test_the_dead_stay_dead_while_ray_still_lists_them() -> None:
    roster = Roster()
    roster.update(["a", "b"])
    roster.bury("a")
    roster.update(["a", "b", "c"])

    assert roster.live == ("b", "c")


def test_the_roster_remembers_where_a_request_went() -> None:
    roster = Roster()
    roster.sent("d1", "a")
    roster.sent("d1", "b")

    assert roster.whereabouts("d1") == "b"
    assert roster.whereabouts("d2") is None
