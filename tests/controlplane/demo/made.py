"""Replies and stored decisions as a run would have left them."""

from random import Random

from kvplane.controlplane.decision_row import DecisionRow
from kvplane.controlplane.demo.chat import Completion
from kvplane.controlplane.demo.drive import Answer
from kvplane.policies import Candidate, PolicySettings, ReplicaId, RoutedRequest, build_policy

PROMPT_TOKENS = 1000


def answer(
    id: str = "d0",
    tenant: str = "acme",
    *,
    at: float = 0.0,
    prompt: str | None = None,
    prompt_tokens: int = PROMPT_TOKENS,
    cached: int = 0,
    ttft_ms: float = 500.0,
) -> Answer:
    completion = Completion(id, "text", prompt_tokens, cached, ttft_ms)
    return Answer(tenant, "csv", 1, prompt or f"prompt of {id}", at, completion)


def replica(name: str, held: int = 0, waiting: int = 0) -> Candidate:
    return Candidate(ReplicaId(name), held, held, held, waiting_prefill_tokens=waiting)


def row(
    id: str, *candidates: Candidate, cached: int = 0, predicted_ttft_ms: float = 100.0, ttft_ms: float = 100.0
) -> DecisionRow:
    """What kvplane's default decides for these candidates; of its prediction of time, only the figure is replaced."""
    policy = build_policy(PolicySettings(), Random(0))
    choice = policy.choose(RoutedRequest(PROMPT_TOKENS, 16, 32), candidates)
    chosen = next(each for each in candidates if each.replica == choice.replica)
    return DecisionRow(
        id=id,
        at_ns=1_790_000_000_000_000_000,
        took_us=200.0,
        tenant="acme/default",
        model="smollm2",
        router="router-1",
        policy=PolicySettings().name,
        reason=choice.reason,
        chosen=choice.replica,
        propensity=choice.propensity,
        prompt_tokens=PROMPT_TOKENS,
        max_tokens=16,
        block_tokens=32,
        predicted_cached_tokens=chosen.cached_tokens,
        predicted_ttft_ms=predicted_ttft_ms,
        directory_age_ms=100.0,
        candidates=candidates,
        scores=dict(choice.scores),
        basis=dict(choice.basis),
        trace_id="ab" * 16,
        span_id="cd" * 8,
        parent_span_id=None,
        served_by=choice.replica,
        finish="length",
        actual_cached_tokens=cached,
        actual_ttft_ms=ttft_ms,
        queue_ms=0.0,
        prefill_ms=ttft_ms,
        total_ms=1000.0,
        output_tokens=16,
    )
