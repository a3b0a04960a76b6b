"""What a policy sees, what it answers, and what it is told afterwards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NewType, Protocol

import msgspec

ReplicaId = NewType("ReplicaId", str)


@dataclass(frozen=True, slots=True)
class RoutedRequest:
    """The size of a request; a policy never sees its text, its tenant or its fingerprint."""

    prompt_tokens: int
    max_tokens: int
    block_tokens: int
    affinity: int = 0  # a hash of what should stay together: a conversation, or the first tokens; 0: nothing known
    at_s: float = 0.0  # when it came, Unix time; 0: not known


class Candidate(msgspec.Struct, frozen=True):
    """One live replica: what it could reuse of this prompt, and what it has to do already.

    A struct, since every decision makes one for every replica: a frozen dataclass of this size takes 16 times as long.
    """

    replica: ReplicaId
    gpu_tokens: int = 0  # leading prompt tokens it holds in the gpu tier
    cpu_tokens: int = 0  # the same in gpu or cpu: at least gpu_tokens
    disk_tokens: int = 0  # the same in any tier: at least cpu_tokens
    waiting_prefill_tokens: int = 0
    running_sequences: int = 0
    decode_blocks: int = 0
    free_blocks: int = 0
    total_blocks: int = 0
    ongoing: int = 0  # this router's own tickets on it, not yet ended
    waiting_sequences: int = 0  # requests there that have not got their first token
    last_chosen: int = 0  # decisions since this router last chose it; 0: never
    known: bool = True  # false: its page was never read, so nothing above is known
    fresh: bool = True  # false: its page is silent, so what it has to do is a guess; what it holds stands
    expected_tokens: int = 0  # those of gpu_tokens that it holds in no tier yet: tickets under way will leave them

    @property
    def cached_tokens(self) -> int:
        return self.disk_tokens


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer, with enough said to explain it, to replay it and to learn from it."""

    replica: ReplicaId
    reason: str  # goes into the span as it stands: few distinct values, no numbers
    propensity: float  # the chance this replica had of being drawn
    scores: Mapping[ReplicaId, float]  # a cost each, lower is better, in the policy's own unit
    predicted_ttft_ms: float | None = None
    basis: Mapping[str, float] = field(default_factory=dict)  # what else the choice rests on: rates, weights, draws


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the request went, as its replica measured it."""

    replica: ReplicaId
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    queue_ms: float
    prefill_ms: float
    total_ms: float
    steps: int = 0  # of the engine, from the first prefill step to the first token; 0: it does not tell
    step_tokens: int = 0  # prompt tokens computed in those steps, other requests' included

    @property
    def ttft_ms(self) -> float:
        return self.queue_ms + self.prefill_ms


class Policy(Protocol):
    """Two verbs, no I/O, no clock; chance comes from the Random it was built with."""

    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
        """Pick one of at least one candidate."""
        ...

    def learn(self, choice: Choice | None, outcome: Outcome) -> None:
        """Be told how a choice went, much later and in any order; None: another router's choice."""
        ...
