"""Runs made by hand: what a test does not name is the same for every request."""

from collections.abc import Sequence

import numpy as np

from kvplane.controlplane.replay.run import Floats, Run


def made_run(
    ttft_ms: Sequence[float] | Floats,
    *,
    policy: str = "ours",
    seed: int = 0,
    e2e_ms: Sequence[float] | None = None,
    prompt: Sequence[int] | None = None,
    cached: Sequence[int] | None = None,
    output: Sequence[int] | None = None,
    tenant: Sequence[int] | None = None,
    replica: Sequence[int] | None = None,
    tenants: tuple[str, ...] = ("acme",),
    replicas: tuple[str, ...] = ("r-0", "r-1"),
    load: Sequence[Sequence[float]] = (),
    duplicates: Sequence[float] = (),
    evicted_blocks: int = 0,
) -> Run:
    """A request a second, of 100 prompt tokens, answered with 11 tokens 100 ms after the first."""
    times = np.asarray(ttft_ms, dtype=np.float64)
    n = len(times)
    return Run(
        policy=policy,
        seed=seed,
        tenants=tenants,
        replicas=replicas,
        arrived_ms=1000 * np.arange(n, dtype=np.float64),
        queue_ms=0.1 * times,
        ttft_ms=times,
        e2e_ms=times + 100.0 if e2e_ms is None else np.asarray(e2e_ms, dtype=np.float64),
        prompt_tokens=np.asarray([100] * n if prompt is None else prompt, dtype=np.int64),
        cached_tokens=np.asarray([0] * n if cached is None else cached, dtype=np.int64),
        output_tokens=np.asarray([11] * n if output is None else output, dtype=np.int64),
        tenant=np.asarray([0] * n if tenant is None else tenant, dtype=np.int64),
        replica=np.asarray([0] * n if replica is None else replica, dtype=np.int64),
        sampled_ms=1000 * np.arange(len(load), dtype=np.float64),
        load=np.asarray(load, dtype=np.float64).reshape(len(load), len(replicas)),
        duplicates=np.asarray(duplicates, dtype=np.float64),
        evicted_blocks=evicted_blocks,
    )
