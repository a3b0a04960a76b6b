"""What one policy made of one trace."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Run:
    """Arrays over the trace's requests are in its order, shape (n,); NaN times and replica -1 mark one that failed."""

    policy: str
    seed: int
    tenants: tuple[str, ...]
    replicas: tuple[str, ...]
    arrived_ms: Floats  # since the trace began
    queue_ms: Floats  # arrival to the first prefill step
    ttft_ms: Floats
    e2e_ms: Floats
    prompt_tokens: Ints
    cached_tokens: Ints  # of the prompt, found by the engine
    output_tokens: Ints
    tenant: Ints  # index into `tenants`
    replica: Ints  # index into `replicas`
    sampled_ms: Floats  # when the fleet was looked at, shape (m,)
    load: Floats  # sequences each replica had, waiting ones too, shape (m, replicas)
    duplicates: Floats  # blocks in more caches than one, each counted once less than it is held, shape (m,)
    evicted_blocks: int
    declines: int = 0  # tickets that a replica sent back

    @property
    def tpot_ms(self) -> Floats:
        """Milliseconds a token behind the first; NaN for an answer of one token."""
        behind = np.where(self.output_tokens > 1, self.output_tokens - 1, 1)
        return np.where(self.output_tokens > 1, (self.e2e_ms - self.ttft_ms) / behind, np.nan)

    @property
    def served(self) -> NDArray[np.bool_]:
        """Which requests were answered."""
        return ~np.isnan(self.e2e_ms)
