"""NVIDIA Dynamo's KV router: prefill blocks left after cache credit, scaled, plus decode blocks."""

from collections.abc import Mapping, Sequence
from random import Random

import numpy as np
import pydantic
from pydantic import BaseModel, ConfigDict

from .contract import Candidate, Choice, Outcome, RoutedRequest
from .features import credible, credible_request
from .field import Field, Floats
from .ranking import Pick, complete, lowest

_LEAST = 1e-9  # neither a difference in cost nor a temperature below it tells replicas apart


class DynamoSettings(BaseModel):
    """Its knobs, under its names less the prefix `router`; the defaults are Dynamo's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefill_load_scale: float = pydantic.Field(default=1.0, ge=0, le=1e6)  # of prefill blocks against decode blocks
    overlap_score_credit: float = pydantic.Field(default=1.0, ge=0, le=1e6)  # prefill blocks a gpu block saves
    overlap_score_credit_decay: float = pydantic.Field(default=0.0, ge=0, le=1e6)  # of it on a replica with a backlog
    host_cache_hit_weight: float = pydantic.Field(default=0.75, ge=0, le=1)  # the credit of a cpu block
    disk_cache_hit_weight: float = pydantic.Field(default=0.25, ge=0, le=1)  # the credit of a disk block
    decode_active_request_weight: float = pydantic.Field(default=0.0, ge=0, le=1e6)  # blocks a running request counts
    temperature: float = pydantic.Field(default=0.0, ge=0, le=1e6)  # above 0 a softmax over the costs is drawn from


class Dynamo:
    """Source: Dynamo's documentation, Router Design, at release 1.6.

    Its decode blocks leave out those of the prompt that a running request already uses; a router here cannot see which
    those are, so every replica is charged the whole prompt. Equal costs are told apart as everywhere here, not drawn.
    """

    def __init__(self, settings: DynamoSettings, random: Random) -> None:
        self._weights: Mapping[str, float] = settings.model_dump()
        self._random = random

    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
        """Pick the lowest cost, or draw by cost if there is a temperature."""
        return decide({**self._weights, "draw": self._random.random()}, request, candidates)

    def learn(self, choice: Choice | None, outcome: Outcome) -> None:
        """Its weights are set, not learned."""


def decide(basis: Mapping[str, float], request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
    """Pick at the weights that `basis` records; a cost is in blocks."""
    request = credible_request(request)
    field = credible(candidates)
    costs = _blocks(basis, request, field)
    if basis["temperature"] > 0:
        pick, reason = _sampled(costs, basis["temperature"], basis["draw"]), "drawn by cost"
    else:
        pick = lowest(field, costs, basis["draw"])
        reason = f"equal cost: tie, {pick.tie}" if pick.tie else "lowest cost"
    if len(candidates) == 1:
        reason = "only candidate"
    scores = complete(field, costs, candidates)
    return Choice(field.replicas[pick.place], reason, pick.propensity, scores, basis=basis)


def _blocks(basis: Mapping[str, float], request: RoutedRequest, field: Field) -> Floats:
    block, prompt = request.block_tokens, request.prompt_tokens
    incoming = -(-prompt // block)
    backlog = field.waiting_prefill_tokens / block
    gpu, cpu, disk = np.minimum(np.maximum.accumulate(field.numbers[:3], axis=0), prompt - 1) / block
    decay = 1 / (1 + basis["overlap_score_credit_decay"] * (backlog - backlog.min()) / incoming)
    credit = (
        basis["overlap_score_credit"] * decay * gpu
        + basis["host_cache_hit_weight"] * (cpu - gpu)
        + basis["disk_cache_hit_weight"] * (disk - cpu)
    )
    prefill = np.maximum(backlog + prompt / block - credit, 0.0)
    requests = np.maximum(field.running_sequences, field.ongoing)
    costs: Floats = (
        basis["prefill_load_scale"] * prefill
        + (field.decode_blocks + incoming)
        + basis["decode_active_request_weight"] * requests
    )
    return costs


def _sampled(costs: Floats, temperature: float, draw: float) -> Pick:
    """Draw from a softmax of the costs, the cheapest counted as 0 and the dearest as 1."""
    apart = costs - costs.min()
    shares = np.exp(-apart / (max(float(apart.max()), _LEAST) * max(temperature, _LEAST)))
    shares /= shares.sum()
    place = min(int(shares.cumsum().searchsorted(draw, side="right")), len(costs) - 1)
    return Pick(place, "", float(shares[place]))
