"""An event loop whose clock leaps: whoever sleeps wakes in order, at once, and the clock says that it was later."""

import asyncio
import selectors


class LeapingLoop(asyncio.SelectorEventLoop):
    """For programs that only wait for one another and for time."""

    def __init__(self) -> None:
        self._leaps = _Leaps()
        super().__init__(self._leaps)

    def time(self) -> float:
        return self._leaps.now


class _Leaps(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("all wait, and no time is set at which one of them would wake")
        self.now += max(0.0, timeout)
        found: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        return found
