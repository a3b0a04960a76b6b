"""What an answer lets the one who asked see."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client measures, and the id under which the operator finds the decision."""

    decision: str
    ttft_ms: float  # sent to first token
    prompt_tokens: int
    cached_tokens: int


Ask = Callable[[str, str], Reply]  # a key, a prompt
