"""A decision in words, and what would have changed it: found by replaying the policy itself."""

import re
from dataclasses import replace
from random import Random

import msgspec

from kvplane.controlplane.decisions import DecisionRow
from kvplane.controlplane.explain import explain
from kvplane.policies import Candidate, PolicyName, PolicySettings, ReplicaId, RoutedRequest, build_policy
from kvplane.policies.estimated_ttft import EstimatedTtftSettings
from kvplane.policies.rates import RateSettings

# One millisecond a token, weight 2, nothing else: costs can be worked out by hand.
SETTINGS = EstimatedTtftSettings(rates=RateSettings(base_ms=1e-9, token_ms=1.0, token_pair_ms=1e-15))
A, B, C = Candidate(ReplicaId("replica-a")), Candidate(ReplicaId("replica-b")), Candidate(ReplicaId("replica-c"))


def holding(candidate: Candidate, tokens: int, waiting: int = 0) -> Candidate:
    return Candidate(candidate.replica, tokens, tokens, tokens, waiting_prefill_tokens=waiting)


def number(text: str, after: str) -> int:
    found = re.search(rf"{after} ([\d,]+) more", text)
    assert found
    return int(found[1].replace(",", ""))


def decided(*candidates: Candidate, name: PolicyName = "estimated_ttft") -> DecisionRow:
    policy = build_policy(PolicySettings(name=name, estimated_ttft=SETTINGS), Random(0))
    choice = policy.choose(RoutedRequest(1000, 0, 16), candidates)
    chosen = next(each for each in candidates if each.replica == choice.replica)
    return DecisionRow(
        id="0a1b2c3d4e5f6071",
        at_ns=1_790_000_000_123_000_000,
        took_us=212.4,
        tenant="acme/docs",
        model="smollm2",
        router="router-1",
        policy=name,
        reason=choice.reason,
        chosen=choice.replica,
        propensity=choice.propensity,
        prompt_tokens=1000,
        max_tokens=0,
        block_tokens=16,
        predicted_cached_tokens=chosen.cached_tokens,
        predicted_ttft_ms=choice.predicted_ttft_ms,
        directory_age_ms=12.0,
        candidates=candidates,
        scores=dict(choice.scores),
        basis=dict(choice.basis),
        trace_id="ab" * 16,
        span_id="cd" * 8,
        parent_span_id=None,
        served_by=choice.replica,
        finish="stop",
        actual_cached_tokens=784,
        actual_ttft_ms=210.0,
        queue_ms=4.0,
        prefill_ms=206.0,
        total_ms=900.0,
        output_tokens=1,
    )


def test_it_says_where_a_request_went_that_found_its_replica_full() -> None:
    row = replace(decided(holding(A, 800), B), served_by=B.replica)

    assert f"It was served by {B.replica}: {A.replica} was full or gone by then." in explain(row)


def test_it_says_that_a_replica_declined() -> None:
    text = explain(replace(decided(holding(A, 800), B), finish="declined"))

    assert f"{A.replica} declined it, having more to do than is said above; the request was decided again." in text
    assert "Reported:" not in text


def test_it_says_how_much_of_a_prediction_was_still_under_way() -> None:
    row = decided(msgspec.structs.replace(holding(A, 800), expected_tokens=160), B)

    assert "Predicted: 800 cached tokens (160 of them under way) and a first token after 200 ms." in explain(row)
    assert row.to_json()["expected_cached_tokens"] == 160
    assert row.to_json()["candidates"][0]["expected_tokens"] == 160


def test_it_says_who_asked_who_held_what_and_what_each_would_have_cost() -> None:
    lines = explain(decided(holding(A, 800, waiting=100), B)).splitlines()

    assert lines == [
        f"Decision 0a1b2c3d4e5f6071 of 2026-09-21 14:13:20.123 UTC took 212 us, trace {'ab' * 16}.",
        "acme/docs asked smollm2 to continue 1,000 tokens by at most 0; the directory was 12 ms old.",
        "estimated_ttft chose replica-a: longest prefix.",
        "",
        "    replica      cached  tier   waiting  running        cost",
        " -> replica-a       800  gpu        100        0    500.0 ms",
        "    replica-b         0  -            0        0  2,000.0 ms",
        "",
        "Predicted: 800 cached tokens and a first token after 300 ms.",
        "Reported:  784 cached tokens and a first token after 210 ms (queue 4, prefill 206);"
        " 1 token in 900 ms, finish: stop.",
        "It would have gone to replica-b had that held 751 more tokens of this prompt.",
        "It would have gone elsewhere had replica-a had 1,501 more tokens waiting.",
    ]


def test_the_counterfactuals_are_exactly_where_the_choice_turns() -> None:
    text = explain(decided(holding(A, 800, waiting=100), B))
    longer, busier = number(text, "had that held"), number(text, "had replica-a had")

    assert decided(holding(A, 800, waiting=100), holding(B, longer - 1)).chosen == "replica-a"
    assert decided(holding(A, 800, waiting=100), holding(B, longer)).chosen == "replica-b"
    assert decided(holding(A, 800, waiting=100 + busier - 1), B).chosen == "replica-a"
    assert decided(holding(A, 800, waiting=100 + busier), B).chosen == "replica-b"


def test_where_no_longer_prefix_would_help_only_the_load_is_named() -> None:
    text = explain(decided(A, holding(B, 0, waiting=5000)))

    assert "had that held" not in text  # 5,000 more waiting is a tie, which the recorded draw gives to b
    assert "had replica-a had 5,000 more tokens waiting" in text


def test_a_policy_that_looks_at_neither_says_that_neither_mattered() -> None:
    text = explain(decided(A, holding(B, 900), name="round_robin"))

    assert "chose replica-a: next in turn." in text
    assert "Neither a longer prefix on replica-b nor more work on replica-a would have changed it." in text


def test_a_drawn_choice_names_its_chance_and_a_silent_replica_is_marked() -> None:
    silent, unknown = msgspec.structs.replace(B, fresh=False), msgspec.structs.replace(C, known=False)
    text = explain(decided(A, silent, unknown))

    assert "cold: tie, drawn (its chance was 33%)" in text
    assert "silent: its load is a guess" in text
    assert "not known" in text


def test_only_the_best_of_many_are_shown() -> None:
    many = [holding(Candidate(ReplicaId(f"replica-{place:02}")), 10 * place) for place in range(20)]
    text = explain(decided(*many))

    assert text.index("-> replica-19") < text.index("replica-18") < text.index("replica-14")
    assert "replica-13" not in text
    assert "and 14 more" in text
    assert len(text.splitlines()) <= 17


def test_a_decision_without_outcome_choice_or_candidates_is_told_as_such() -> None:
    row = replace(decided(A), chosen=None, candidates=(), scores={}, reason="no replica is known", finish=None)
    text = explain(row)

    assert "named no replica: no replica is known." in text
    assert "There was no candidate." in text
    assert "Reported: nothing yet." in text


def test_a_policy_this_build_does_not_have_is_named_not_guessed() -> None:
    text = explain(replace(decided(A, B), policy="magic"))

    assert "It cannot be replayed: policies are round_robin" in text


def test_a_choice_that_no_longer_replays_is_admitted() -> None:
    text = explain(replace(decided(holding(A, 800), B), chosen="replica-b"))

    assert "This build would choose replica-a for the same numbers" in text
