"""Which routers are at work, from the tickets that replicas' loads count: those whose numbers rise."""

from collections.abc import Mapping

_WITHIN_S = 2.0
_REMEMBERED = 1024  # routers, most of them gone


class AtWork:
    """As seen by one router of `routers`."""

    def __init__(self, router: str, routers: int, began_s: float) -> None:
        self._router = router
        self._routers = routers
        self._began_s = began_s
        self._numbers: dict[str, int] = {}  # of the last ticket of each, as counted
        self._risen_s: dict[str, float] = {}

    def counted(self, numbers: Mapping[str, int], now_s: float) -> None:
        """Take in what one replica's load counts."""
        for router, number in numbers.items():
            if number > self._numbers.get(router, 0):
                self._numbers[router], self._risen_s[router] = number, now_s

    def place(self, now_s: float) -> tuple[int, int]:
        """This router's place among those at work, by name, and how many they are.

        At first nobody has been counted, and all may be about to begin.
        """
        since_s = now_s - _WITHIN_S
        others = [router for router, at_s in self._risen_s.items() if at_s > since_s and router != self._router]
        if len(self._numbers) > _REMEMBERED:
            self._numbers = {router: self._numbers[router] for router in others}
            self._risen_s = {router: self._risen_s[router] for router in others}
        before = sum(router < self._router for router in others)
        return before, max(len(others) + 1, self._routers if self._began_s > since_s else 1)
