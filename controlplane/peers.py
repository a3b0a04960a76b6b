"""Which other routers place requests on the same replicas, from the tickets that replicas' loads count."""

from collections.abc import Mapping

_OFTEN = 256  # decisions between two looks; fewer at first
_REMEMBERED = 1024  # routers, most of them gone


class Peers:
    """A router is a peer while its tickets are counted; one that is gone, or places nothing, is soon none."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # of the last ticket of each, as counted
        self._before: dict[str, int] = {}
        self._turn = -1.0
        self._next = 1

    def counted(self, numbers: Mapping[str, int]) -> None:
        """Take in what one replica's load counts."""
        for router, number in numbers.items():
            if number > self._numbers.get(router, 0):
                self._numbers[router] = number

    def turn(self, router: str, decision: int) -> float:
        """This router's place among all that are at work, in [0, 1); -1 where it is alone."""
        if decision >= self._next:
            self._next = decision + min(decision, _OFTEN)
            before, self._before = self._before, dict(self._numbers)
            at_work = {other for other, number in self._before.items() if number > before.get(other, 0)} | {router}
            self._turn = sorted(at_work).index(router) / len(at_work) if len(at_work) > 1 else -1.0
            if len(self._numbers) > _REMEMBERED:
                self._numbers = {other: number for other, number in self._numbers.items() if other in at_work}
        return self._turn
