"""A trace: who asked for how much, when, and which prompts begin alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request. Of two prompts, those blocks are the same whose ids are: an id stands for the whole prefix up to it."""

    at_ms: float  # since the trace began
    prompt_tokens: int
    output_tokens: int
    ranges: tuple[tuple[int, int], ...]  # (first id, count), a block of the prompt each; the last may be partial
    session: str = ""
    tenant: str = "default"

    @property
    def block_ids(self) -> NDArray[np.int64]:
        """The ids of the prompt's blocks, in order."""
        if not self.ranges:
            return np.zeros(0, np.int64)
        return np.concatenate([np.arange(first, first + count, dtype=np.int64) for first, count in self.ranges])


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests by rising time. `name` is what a table calls it."""

    name: str
    block_tokens: int
    requests: Sequence[TraceRequest]
