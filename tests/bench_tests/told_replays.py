"""Replays whose outcome a test says."""

from collections.abc import Callable, Sequence

from kvplane.controlplane.replay.run import Run
from kvplane.tests.bench.replays import Replay, Replays


class ToldReplays(Replays):
    """Runs nothing; notes what was asked for."""

    def __init__(self, run_of: Callable[[Replay], Run]) -> None:
        super().__init__(jobs=1)
        self._run_of = run_of
        self.asked: list[Replay] = []

    def run(self, replays: Sequence[Replay]) -> list[Run]:
        self.asked += replays
        return [self._run_of(replay) for replay in replays]
