"""One placement, as it is written down: what was asked, who could have served it, who was chosen and why."""

from collections.abc import Sequence

import msgspec

from ..policies import Candidate, Choice, RoutedRequest
from ..policies.field import Field
from .accounts import OverLimit


class Decision(msgspec.Struct, frozen=True):
    """Sizes, features and labels only; a prompt, a prefix's name, a key or a salt has no field to be in."""

    id: str
    at_ns: int  # Unix time
    took_us: float
    tenant: str  # organisation/workspace
    model: str
    router: str
    policy: str
    request: RoutedRequest
    candidates: Sequence[Candidate]  # columns (`policies/field.py`) where a policy has seen them
    choice: Choice | None  # None: there was nobody to choose from, or the choice was left to another
    reason: str
    directory_age_ms: float
    traceparent: str | None  # the client's, W3C Trace Context
    over_limit: OverLimit | None = None  # what was done, its tenant's write limit being reached
    claimed_tokens: int = 0  # those of the prompt that the chosen replica's page told of

    @property
    def chosen(self) -> Candidate | None:
        if self.choice is None:
            return None
        return Field.of(self.candidates).row(self.choice.replica)

    @property
    def predicted_cached_tokens(self) -> int:
        """Prompt tokens the chosen replica is believed to hold; of an unknown one, none are."""
        chosen = self.chosen
        return chosen.cached_tokens if chosen is not None and chosen.known else 0

    @property
    def predicted_ttft_ms(self) -> float | None:
        return None if self.choice is None else self.choice.predicted_ttft_ms
