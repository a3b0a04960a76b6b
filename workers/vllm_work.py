"""What a vLLM engine has to do, told from outside: its requests from arrival on, its blocks from step to step."""

from collections.abc import Callable
from dataclasses import dataclass, field

from .engine import EngineDead, EngineLoad

_STUCK_S = 300.0  # with work to do; a step takes seconds at the most


@dataclass(slots=True, eq=False)
class Job:
    """One request that has not ended."""

    lacking: int  # prompt tokens to be computed, as far as is known
    began: bool = False  # its first token is there


@dataclass(slots=True)
class Work:
    """vLLM tells of its blocks and sequences at the end of each step, and nothing of what is aborted between steps."""

    clock: Callable[[], float]  # seconds
    _jobs: set[Job] = field(default_factory=set)
    _used: float = 0.0  # share of the blocks
    _running: int = 0
    _heard_at: float = 0.0

    def begin(self, lacking: int) -> Job:
        """A request goes to the engine."""
        if not self._jobs:
            self._heard_at = self.clock()
        job = Job(lacking)
        self._jobs.add(job)
        return job

    def end(self, job: Job) -> None:
        """A request has ended, however it did."""
        self._jobs.discard(job)

    def stepped(self, used: float, running: int) -> None:
        """A step has ended: the share of blocks in use after it, and the sequences that are not yet done."""
        self._used, self._running, self._heard_at = used, running, self.clock()

    def load(self, blocks: int) -> EngineLoad:
        """Count the work at hand. A prompt waits as it came until its first token: vLLM tells nothing of it before.

        Raises `EngineDead` if there is work and no step has ended for minutes.
        """
        if self._jobs and self.clock() - self._heard_at > _STUCK_S:
            raise EngineDead(f"no step has ended for more than {_STUCK_S:.0f} s")
        waiting = [job.lacking for job in self._jobs if not job.began]
        used = round(self._used * blocks) if self._jobs else 0
        return EngineLoad(
            waiting_prefill_tokens=sum(waiting),
            running_sequences=min(self._running, len(self._jobs)),
            decode_blocks=used,
            free_blocks=blocks - used,
            waiting_sequences=len(waiting),
        )
