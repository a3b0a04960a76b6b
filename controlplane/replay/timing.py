"""How long a step of a simulated replica takes, and the engines to choose from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class BadTiming(Exception):
    """A timing that cannot be had: what was wanted, what came."""


class Step(NamedTuple):
    """What one step computes: parts of prompts, and the next token of each sequence that has had its first."""

    prompts: int
    new_tokens: int  # of those prompts, computed in this step
    cached_tokens: int  # of those prompts, computed before
    sequences: int
    context_tokens: int  # summed over the sequences
    capacity_tokens: int  # of the replica's cache


class Timing(Protocol):
    """Every implementation passes tests/controlplane/replay/test_timing.py."""

    def step_ms(self, step: Step) -> float: ...

    def decode_ms(self, sequences: int, context_tokens: Floats, capacity_tokens: int) -> Floats:
        """Give what many steps without prompts take, each the same as from `step_ms`."""
        ...

    def fetch_ms(self, cpu_tokens: int, disk_tokens: int) -> float:
        """Give what it takes to bring tokens to the GPU before the step that needs them."""
        ...


@dataclass(frozen=True, slots=True)
class Links:
    """What it costs to bring blocks up from the tiers below the GPU."""

    cpu_us_per_token: float
    disk_us_per_token: float
    cpu_latency_ms: float = 0.1
    disk_latency_ms: float = 0.5

    def fetch_ms(self, cpu_tokens: int, disk_tokens: int) -> float:
        cpu_ms = self.cpu_latency_ms + cpu_tokens * self.cpu_us_per_token / 1e3 if cpu_tokens else 0.0
        disk_ms = self.disk_latency_ms + disk_tokens * self.disk_us_per_token / 1e3 if disk_tokens else 0.0
        return cpu_ms + disk_ms


@dataclass(frozen=True, slots=True)
class DynamoMock:
    """Dynamo's mock engine by default: two polynomials, added up (lib/mocker/src/common/perf_model.rs)."""

    links: Links

    def step_ms(self, step: Step) -> float:
        prefill_ms = 0.0
        if step.prompts:
            # As it does there, each prompt stands for the average one, cut to whole tokens.
            prompt_tokens = (step.new_tokens + step.cached_tokens) // step.prompts
            tokens = step.prompts * (prompt_tokens - step.cached_tokens // step.prompts)
            prefill_ms = 4.209989e-07 * tokens * tokens + 1.518344e-02 * tokens + 1.650142e01 if tokens else 0.0
        if not step.sequences:
            return prefill_ms
        share = min(step.context_tokens / step.capacity_tokens, 1.0)
        return prefill_ms + (-25.74 * share * share + 54.01 * share + 5.74)

    def decode_ms(self, sequences: int, context_tokens: Floats, capacity_tokens: int) -> Floats:
        share = np.minimum(context_tokens / capacity_tokens, 1.0)
        decode_ms: Floats = -25.74 * share * share + 54.01 * share + 5.74
        return decode_ms

    def fetch_ms(self, cpu_tokens: int, disk_tokens: int) -> float:
        return self.links.fetch_ms(cpu_tokens, disk_tokens)


@dataclass(frozen=True, slots=True)
class Roofline:
    """A dense transformer in 16 bits. A step computes or reads the weights, what takes longer, then reads the cache.

    Half the peak FLOPS and 0.7 of the memory bandwidth are reached, as well-tuned engines do.
    """

    parameters: float
    layers: int
    attention_width: int  # query heads x their size
    kv_bytes_per_token: int
    gpus: int
    overhead_ms: float  # of a step: launches, and all-reduces between GPUs
    links: Links
    flops: float = 989e12  # of one GPU; H100 SXM, dense
    bytes_per_s: float = 3.35e12

    def step_ms(self, step: Step) -> float:
        pairs = step.new_tokens * (step.cached_tokens + step.new_tokens / 2) / max(step.prompts, 1)
        attention_ms = 4e3 * self.layers * self.attention_width * pairs / self._flops_per_s
        compute_ms = 2e3 * self.parameters * (step.new_tokens + step.sequences) / self._flops_per_s
        kv_tokens = step.cached_tokens + step.context_tokens
        return self.overhead_ms + max(compute_ms, self._weights_ms) + attention_ms + kv_tokens * self._kv_ms

    def decode_ms(self, sequences: int, context_tokens: Floats, capacity_tokens: int) -> Floats:
        compute_ms = 2e3 * self.parameters * sequences / self._flops_per_s
        decode_ms: Floats = self.overhead_ms + max(compute_ms, self._weights_ms) + context_tokens * self._kv_ms
        return decode_ms

    def fetch_ms(self, cpu_tokens: int, disk_tokens: int) -> float:
        return self.links.fetch_ms(cpu_tokens, disk_tokens)

    @property
    def _flops_per_s(self) -> float:
        return 0.5 * self.flops * self.gpus

    @property
    def _weights_ms(self) -> float:
        return 2e3 * self.parameters / (0.7 * self.bytes_per_s * self.gpus)

    @property
    def _kv_ms(self) -> float:
        return 1e3 * self.kv_bytes_per_token / (0.7 * self.bytes_per_s * self.gpus)


@dataclass(frozen=True, slots=True)
class Slowed:
    """Another timing, so many times slower."""

    timing: Timing
    factor: float

    def step_ms(self, step: Step) -> float:
        return self.factor * self.timing.step_ms(step)

    def decode_ms(self, sequences: int, context_tokens: Floats, capacity_tokens: int) -> Floats:
        return self.factor * self.timing.decode_ms(sequences, context_tokens, capacity_tokens)

    def fetch_ms(self, cpu_tokens: int, disk_tokens: int) -> float:
        return self.factor * self.timing.fetch_ms(cpu_tokens, disk_tokens)


TIMINGS: Mapping[str, Timing] = {
    "dynamo": DynamoMock(Links(cpu_us_per_token=5.0, disk_us_per_token=40.0)),
    # Llama 3.1 8B on one H100; 50 GB/s to host memory, 6 GB/s to disk.
    "h100_8b": Roofline(8.03e9, 32, 4096, 131_072, 1, 0.3, Links(cpu_us_per_token=2.6, disk_us_per_token=22.0)),
    # Llama 3.1 70B on four H100, tensor parallel; each GPU has its own link to host memory, all share the disk.
    "h100_70b": Roofline(70.6e9, 80, 8192, 327_680, 4, 2.7, Links(cpu_us_per_token=1.6, disk_us_per_token=55.0)),
}


def timing_named(name: str) -> Timing:
    """Give a preset. Raises `BadTiming`."""
    if name not in TIMINGS:
        raise BadTiming(f"there is no timing {name!r}; wanted one of {', '.join(sorted(TIMINGS))}")
    return TIMINGS[name]
