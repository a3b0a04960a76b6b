"""One decision: it sees what replicas hold for this domain alone, and nothing that fails costs a request."""

import time
from collections.abc import Sequence
from random import Random

import pytest

from kvplane.controlplane.decide import LEFT_TO_RAY, NOBODY
from kvplane.controlplane.decision import Decision
from kvplane.directory import HolderId, Overlay, Prefix, Served
from kvplane.directory.wire import Finish
from kvplane.policies import (
    Candidate,
    Choice,
    Outcome,
    PolicySettings,
    ReplicaId,
    RoutedRequest,
    build_policy,
)
from kvplane.tests.routers import ACME, BLOCK, GLOBEX, KEYRING, TRACEPARENT, asked, decide, hold, router, words
from kvplane.workers.ticket import Ticket, verify

PROMPT = words(*range(10))  # two full blocks of four, and two tokens


class Longest:
    """Chooses who holds most, the first of equals; learns into a list."""

    def __init__(self) -> None:
        self.learned: list[Outcome] = []

    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
        scores = {candidate.replica: -float(candidate.gpu_tokens) for candidate in candidates}
        return Choice(min(scores, key=lambda replica: scores[replica]), "longest prefix", 1.0, scores)

    def learn(self, choice: Choice | None, outcome: Outcome) -> None:
        self.learned.append(outcome)


class Raising(Longest):
    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
        raise RuntimeError("broken policy")


def test_the_ticket_ranks_the_holder_first_and_is_signed() -> None:
    made = router(Longest())
    hold(made.sight.holdings, "b", PROMPT)
    decided = decide(made, asked(PROMPT))

    verify(decided.ticket, KEYRING.ticket_key(), 0.0)
    assert decided.ticket.ranks[0] == "b"
    assert set(decided.ticket.ranks) == {"a", "b", "c"}
    assert decided.ticket.salt == KEYRING.salt(ACME)
    assert decided.ticket.traceparent == TRACEPARENT
    assert decided.decision.predicted_cached_tokens == 2 * BLOCK
    assert decided.decision.reason == "longest prefix"


def test_a_ticket_carries_the_best_few_of_a_large_fleet() -> None:
    made = router(Longest(), replicas=[f"r-{number:03d}" for number in range(100)])
    hold(made.sight.holdings, "r-077", PROMPT)
    ranks = decide(made, asked(PROMPT)).ticket.ranks

    assert ranks == ("r-077", *(f"r-{number:03d}" for number in range(15)))


def test_another_tenants_identical_prompt_finds_nothing_and_gets_another_salt() -> None:
    made = router(Longest())
    hold(made.sight.holdings, "b", PROMPT, ACME)
    decided = decide(made, asked(PROMPT, GLOBEX))

    assert [candidate.gpu_tokens for candidate in decided.decision.candidates] == [0, 0, 0]
    assert decided.ticket.salt != KEYRING.salt(ACME)


def test_each_decision_sees_how_long_ago_every_replica_was_chosen() -> None:
    made = router(build_policy(PolicySettings(name="round_robin"), Random(1)))
    first, second, _, fourth = (decide(made, asked(PROMPT)).decision for _ in range(4))

    assert [each.last_chosen for each in second.candidates if each.replica == chosen(first)] == [1]
    assert [each.last_chosen for each in first.candidates] == [0, 0, 0]
    assert sorted(each.last_chosen for each in fourth.candidates) == [1, 2, 3]


def test_own_tickets_count_as_load_until_they_end() -> None:
    made = router(Longest())
    decided = decide(made, asked(PROMPT))
    chosen = HolderId(decided.ticket.ranks[0])

    assert made.sight.overlay.ongoing(chosen) == 1
    waiting = {c.replica: c.waiting_prefill_tokens for c in decide(made, asked(PROMPT)).decision.candidates}
    assert waiting[ReplicaId(chosen)] == 10
    made.decider.ended(decided.ticket)
    assert made.sight.overlay.ongoing(chosen) == 1


def test_a_policy_that_raises_leaves_the_ranks_open() -> None:
    made = router(Raising())
    decided = decide(made, asked(PROMPT))

    assert decided.ticket.ranks == ()
    assert decided.decision.reason == "policy failed; shuffled"
    assert made.decider.failures["policy"] == 1


def test_a_directory_that_raises_still_leads_to_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    made = router(Longest())

    def broken(prefix: Prefix) -> None:
        raise RuntimeError("broken table")

    monkeypatch.setattr(made.sight.holdings, "find", broken)
    decided = decide(made, asked(PROMPT))

    assert len(decided.ticket.ranks) == 3
    assert decided.decision.reason == "directory failed; longest prefix"
    assert not any(candidate.known for candidate in decided.decision.candidates)


def test_with_nobody_known_the_choice_is_left_open() -> None:
    decided = decide(router(Longest(), replicas=()), asked(PROMPT))

    assert decided.ticket.ranks == ()
    assert decided.decision.reason == NOBODY


def test_without_a_policy_every_choice_is_rays_and_still_written_down() -> None:
    decided = decide(router(None), asked(PROMPT))

    assert decided.ticket.ranks == ()
    assert decided.decision.reason == LEFT_TO_RAY
    assert len(decided.decision.candidates) == 3


@pytest.mark.parametrize("count", [1, 4])
def test_a_prompt_that_ends_on_a_block_keeps_its_last_token_to_compute(count: int) -> None:
    made = router(Longest())
    prompt = words(*range(count * BLOCK))
    hold(made.sight.holdings, "a", prompt)

    assert decide(made, asked(prompt)).decision.predicted_cached_tokens == (count - 1) * BLOCK


def served(ticket: Ticket, finish: Finish = "stop") -> Served:
    return Served(ticket.id, ticket.router, finish, 10, 0, 5, 1.0, 2.0, 9.0)


def test_an_outcome_teaches_once_and_settles_what_a_client_left_behind() -> None:
    policy = Longest()
    made = router(policy)
    ticket = decide(made, asked(PROMPT)).ticket
    replica = HolderId(ticket.ranks[0])

    assert made.decider.awaiting == 1
    assert made.decider.learn(replica, served(ticket))
    assert not made.decider.learn(replica, served(ticket))
    assert len(policy.learned) == 1
    assert made.sight.overlay.ongoing(replica) == 0
    assert made.decider.awaiting == 0


def test_another_routers_outcome_teaches_and_is_its_own_to_write_down() -> None:
    policy = Longest()
    made = router(policy)

    assert not made.decider.learn(HolderId("a"), Served("x", "r2", "stop", 10, 0, 5, 1.0, 2.0, 9.0))
    assert len(policy.learned) == 1


@pytest.mark.parametrize("finish, lessons", [("cancelled", 1), ("length", 1), ("failed", 0)])
def test_a_prefill_that_gave_a_token_teaches_however_the_answer_ended(finish: Finish, lessons: int) -> None:
    policy = Longest()
    made = router(policy)
    made.decider.learn(HolderId("a"), served(decide(made, asked(PROMPT)).ticket, finish))

    assert len(policy.learned) == lessons


def test_a_late_answer_that_goes_on_elsewhere_gets_a_little_time() -> None:
    made = router(Longest())
    ticket = decide(made, asked(PROMPT, wait_s=-100.0)).ticket
    repeat = made.decider.repeat(ticket, without=ticket.ranks[0])

    verify(repeat, KEYRING.ticket_key(), time.time())
    assert ticket.ranks[0] not in repeat.ranks


class LoadOnly(Overlay):
    """Own tickets count as load, and promise nothing."""

    def extents(self, prefix: Prefix) -> dict[HolderId, int]:
        return {}


SHARED = range(40 * BLOCK)  # a system prompt, say


def burst(overlay: Overlay, count: int = 8) -> list[Decision]:
    """Requests of one beginning and an end of their own, in one tick, while no page says anything."""
    made = router(build_policy(PolicySettings(name="estimated_ttft"), Random(1)), overlay=overlay)
    return [decide(made, asked(words(*SHARED, 1000 + number))).decision for number in range(count)]


def chosen(decision: Decision) -> str:
    assert decision.choice is not None
    return decision.choice.replica


def test_a_burst_goes_where_its_prefix_will_be() -> None:
    first, *later = burst(Overlay("r1", time.monotonic))

    assert (first.reason, first.predicted_cached_tokens) == ("cold: tie, drawn", 0)
    assert {chosen(decision) for decision in later} == {chosen(first)}
    for decision in later:
        extents = {each.replica: (each.gpu_tokens, each.expected_tokens) for each in decision.candidates}
        assert extents == {name: (160, 160) if name == chosen(first) else (0, 0) for name in "abc"}
        assert (decision.predicted_cached_tokens, decision.reason) == (160, "longest prefix")


def test_without_promises_a_burst_is_spread_by_load_alone() -> None:
    spread = burst(LoadOnly("r1", time.monotonic))

    assert {chosen(decision) for decision in spread} == {"a", "b", "c"}
    assert {decision.predicted_cached_tokens for decision in spread} == {0}


def test_a_ticket_adds_as_load_only_what_will_not_have_been_computed_before_it() -> None:
    decisions = burst(Overlay("r1", time.monotonic))
    waiting = [max(each.waiting_prefill_tokens for each in decision.candidates) for decision in decisions]

    assert waiting == [0, *range(161, 168)]


def test_another_tenants_ticket_promises_nothing() -> None:
    made = router(Longest())
    decide(made, asked(PROMPT, ACME))

    assert decide(made, asked(PROMPT, GLOBEX)).decision.predicted_cached_tokens == 0
    assert decide(made, asked(PROMPT, ACME)).decision.predicted_cached_tokens == 2 * BLOCK


def test_a_request_that_goes_on_elsewhere_leaves_no_promise_where_it_failed() -> None:
    made = router(Longest())
    ticket = decide(made, asked(PROMPT)).ticket
    made.decider.repeat(ticket, without=ticket.ranks[0])

    assert decide(made, asked(PROMPT)).decision.predicted_cached_tokens == 0


@pytest.mark.parametrize(
    "rank, finish, output_tokens, promised",
    [
        (0, "stop", 5, 2 * BLOCK),
        (0, "cancelled", 5, 2 * BLOCK),
        (0, "cancelled", 0, 0),
        (0, "failed", 5, 0),
        (1, "stop", 5, 0),
    ],
)
def test_an_outcome_voids_the_promise_of_a_prompt_that_was_not_computed_there(
    rank: int, finish: Finish, output_tokens: int, promised: int
) -> None:
    made = router(Longest())
    ticket = decide(made, asked(PROMPT)).ticket
    told = Served(ticket.id, ticket.router, finish, 10, 0, output_tokens, 1.0, 2.0, 9.0)
    made.decider.learn(HolderId(ticket.ranks[rank]), told)

    assert decide(made, asked(PROMPT)).decision.predicted_cached_tokens == promised
