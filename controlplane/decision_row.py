"""One stored decision joined to its outcome: what a query answers with."""

import json
from dataclasses import dataclass
from typing import Any

import msgspec

from ..policies import Candidate, ReplicaId, RoutedRequest
from . import span_keys as keys
from .recorded_candidates import decoded


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """A decision joined to what came of it; the last eight fields are None until it is known."""

    id: str
    at_ns: int
    took_us: float
    tenant: str
    model: str
    router: str
    policy: str
    reason: str
    chosen: str | None
    propensity: float | None
    prompt_tokens: int
    max_tokens: int
    block_tokens: int
    predicted_cached_tokens: int
    predicted_ttft_ms: float | None
    directory_age_ms: float
    candidates: tuple[Candidate, ...]
    scores: dict[ReplicaId, float]
    basis: dict[str, float]
    trace_id: str
    span_id: str
    parent_span_id: str | None
    served_by: str | None  # elsewhere than chosen if that was full or gone
    finish: str | None
    actual_cached_tokens: int | None
    actual_ttft_ms: float | None
    queue_ms: float | None
    prefill_ms: float | None
    total_ms: float | None
    output_tokens: int | None
    affinity: str = "0"  # decimal digits: more than JSON's numbers carry everywhere

    @property
    def request(self) -> RoutedRequest:
        affinity, at_s = int(self.affinity), self.at_ns / 1e9
        return RoutedRequest(self.prompt_tokens, self.max_tokens, self.block_tokens, affinity, at_s)

    @property
    def expected_cached_tokens(self) -> int:
        """Those of the predicted tokens that were not in the chosen replica's cache yet."""
        return sum(each.expected_tokens for each in self.candidates if each.replica == self.chosen)

    @property
    def prediction_error(self) -> int | None:
        """Cached tokens, predicted less reported."""
        if self.chosen is None or self.actual_cached_tokens is None:
            return None
        return self.predicted_cached_tokens - self.actual_cached_tokens

    def to_json(self) -> dict[str, Any]:  # JSON
        derived = {
            "expected_cached_tokens": self.expected_cached_tokens,
            "prediction_error": self.prediction_error,
        }
        row: dict[str, Any] = msgspec.to_builtins(self)
        return row | derived


def joined(
    start_ns: int, end_ns: int, trace_id: str, span_id: str, parent: str | None, route: str, outcome: str | None
) -> DecisionRow:
    """Read a route span, and its outcome's attributes where there is one; attributes are JSON."""
    about, after = json.loads(route), json.loads(outcome or "{}")
    return DecisionRow(
        id=about[keys.DECISION_ID],
        at_ns=start_ns,
        took_us=(end_ns - start_ns) / 1e3,
        tenant=about[keys.TENANT],
        model=about[keys.MODEL],
        router=about[keys.ROUTER],
        policy=about[keys.POLICY],
        reason=about[keys.REASON],
        chosen=about.get(keys.CHOSEN_REPLICA),
        propensity=about.get(keys.PROPENSITY),
        prompt_tokens=about[keys.INPUT_TOKENS],
        max_tokens=about[keys.MAX_TOKENS],
        block_tokens=about[keys.BLOCK_TOKENS],
        affinity=about.get(keys.AFFINITY, "0"),
        predicted_cached_tokens=about[keys.PREDICTED_CACHED_TOKENS],
        predicted_ttft_ms=about.get(keys.PREDICTED_TTFT_MS),
        directory_age_ms=about[keys.DIRECTORY_AGE_MS],
        candidates=decoded(about[keys.FEATURES]),
        scores=json.loads(about[keys.SCORES]),
        basis=json.loads(about[keys.BASIS]),
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=parent,
        served_by=after.get(keys.SERVED_BY),
        finish=after.get(keys.FINISH),
        actual_cached_tokens=after.get(keys.ACTUAL_CACHED_TOKENS),
        actual_ttft_ms=after.get(keys.ACTUAL_TTFT_MS),
        queue_ms=after.get(keys.QUEUE_MS),
        prefill_ms=after.get(keys.PREFILL_MS),
        total_ms=after.get(keys.TOTAL_MS),
        output_tokens=after.get(keys.OUTPUT_TOKENS),
    )
