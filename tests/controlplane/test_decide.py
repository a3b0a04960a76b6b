"""One decision: it sees what replicas hold for this domain alone, and nothing that fails costs a request."""

from collections.abc import Sequence

import pytest

from kvplane.controlplane.decide import LEFT_TO_RAY, NOBODY
from kvplane.directory import HolderId, Prefix
from kvplane.policies import Candidate, Choice, Outcome, ReplicaId, RoutedRequest
from kvplane.tests.routers import ACME, BLOCK, GLOBEX, KEYRING, asked, hold, router, words
from kvplane.workers.ticket import verify

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
    decided = made.decider.decide(asked(PROMPT))

    verify(decided.ticket, KEYRING.ticket_key(), 0.0)
    assert decided.ticket.ranks[0] == "b"
    assert set(decided.ticket.ranks) == {"a", "b", "c"}
    assert decided.ticket.salt == KEYRING.salt(ACME)
    assert decided.decision.predicted_cached_tokens == 2 * BLOCK
    assert decided.decision.reason == "longest prefix"


def test_another_tenants_identical_prompt_finds_nothing_and_gets_another_salt() -> None:
    made = router(Longest())
    hold(made.sight.holdings, "b", PROMPT, ACME)
    decided = made.decider.decide(asked(PROMPT, GLOBEX))

    assert [candidate.gpu_tokens for candidate in decided.decision.candidates] == [0, 0, 0]
    assert decided.ticket.salt != KEYRING.salt(ACME)


def test_own_tickets_count_as_load_until_they_end() -> None:
    made = router(Longest())
    decided = made.decider.decide(asked(PROMPT))
    chosen = HolderId(decided.ticket.ranks[0])

    assert made.sight.overlay.ongoing(chosen) == 1
    waiting = {c.replica: c.waiting_prefill_tokens for c in made.decider.decide(asked(PROMPT)).decision.candidates}
    assert waiting[ReplicaId(chosen)] == 10
    made.decider.ended(decided.ticket)
    assert made.sight.overlay.ongoing(chosen) == 1


def test_a_policy_that_raises_leaves_the_ranks_open() -> None:
    made = router(Raising())
    decided = made.decider.decide(asked(PROMPT))

    assert decided.ticket.ranks == ()
    assert decided.decision.reason == "policy failed; shuffled"
    assert made.decider.failures["policy"] == 1


def test_a_directory_that_raises_still_leads_to_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    made = router(Longest())

    def broken(prefix: Prefix) -> None:
        raise RuntimeError("broken table")

    monkeypatch.setattr(made.sight.holdings, "find", broken)
    decided = made.decider.decide(asked(PROMPT))

    assert len(decided.ticket.ranks) == 3
    assert decided.decision.reason == "directory failed; longest prefix"
    assert not any(candidate.known for candidate in decided.decision.candidates)


def test_with_nobody_known_the_choice_is_left_open() -> None:
    decided = router(Longest(), replicas=()).decider.decide(asked(PROMPT))

    assert decided.ticket.ranks == ()
    assert decided.decision.reason == NOBODY


def test_without_a_policy_every_choice_is_rays_and_still_written_down() -> None:
    decided = router(None).decider.decide(asked(PROMPT))

    assert decided.ticket.ranks == ()
    assert decided.decision.reason == LEFT_TO_RAY
    assert len(decided.decision.candidates) == 3


@pytest.mark.parametrize("count", [1, 4])
def test_a_prompt_that_ends_on_a_block_keeps_its_last_token_to_compute(count: int) -> None:
    made = router(Longest())
    prompt = words(*range(count * BLOCK))
    hold(made.sight.holdings, "a", prompt)

    assert made.decider.decide(asked(prompt)).decision.predicted_cached_tokens == (count - 1) * BLOCK
