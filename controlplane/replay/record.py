"""What happens to the requests of a replay, written down as it happens."""

from collections.abc import Iterable

import numpy as np

from .fleet import FleetSettings
from .job import Job
from .run import Floats, Run
from .trace import Trace

_ROUNDED_MS = 1e-3  # what the loop's seconds lose


class Record:
    """Of so many requests; one that never was sent has failed."""

    def __init__(self, requests: int) -> None:
        self._jobs: list[Job | None] = [None] * requests  # the last attempt at each
        self._place = np.full(requests, -1, np.int64)
        self.samples: list[
            tuple[float, list[int], int]
        ] = []  # ms since it began, sequences of each replica, duplicates
        self.declines = 0
        self.evicted = 0  # blocks

    def sent(self, job: Job, replica: int) -> None:
        """Note where a request goes, by the replica's number; later attempts count."""
        self._jobs[job.key] = job
        self._place[job.key] = replica

    def run(self, policy: str, seed: int, trace: Trace, fleet: FleetSettings, began_ms: float) -> Run:
        """All of it, once every request has ended."""
        requests, jobs = trace.requests, self._jobs
        arrived = np.array([request.at_ms for request in requests])
        domain_of = {tenant: number for number, tenant in enumerate(trace.tenants)}

        def since(moments: Iterable[float | None]) -> Floats:
            at_ms = np.array([np.nan if at is None else at for at in moments], np.float64)
            since_arrived: Floats = at_ms - began_ms - arrived
            assert not (since_arrived < -_ROUNDED_MS).any()
            return np.maximum(since_arrived, 0.0)

        return Run(
            policy=policy,
            seed=seed,
            tenants=trace.tenants,
            replicas=fleet.names,
            arrived_ms=arrived,
            queue_ms=since(job.began_ms if job else None for job in jobs),
            ttft_ms=since(job.first_token_ms if job else None for job in jobs),
            e2e_ms=since(job.ended_ms if job else None for job in jobs),
            prompt_tokens=np.array([request.prompt_tokens for request in requests]),
            cached_tokens=np.array([job.cached_tokens if job else 0 for job in jobs]),
            output_tokens=np.array([max(1, request.output_tokens) for request in requests]),
            tenant=np.array([domain_of[request.tenant] for request in requests]),
            replica=self._place,
            sampled_ms=np.array([at for at, _, _ in self.samples]),
            load=np.array([loads for _, loads, _ in self.samples], np.float64),
            duplicates=np.array([twice for _, _, twice in self.samples], np.float64),
            evicted_blocks=self.evicted,
            declines=self.declines,
        )
