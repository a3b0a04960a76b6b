"""Parts are put right many at a time, and those that are in order not at all."""

import asyncio

from kvplane.controlplane.tidying import tidy


class Part:
    """One that notes how many are being put right together with it."""

    def __init__(self, together: list[int], is_untidy: bool = True) -> None:
        self._together = together
        self._is_untidy = is_untidy
        self.stocks = 0
        self.is_right = False

    def take_stock(self) -> bool:
        self.stocks += 1
        return self._is_untidy

    async def put_right(self) -> None:
        self._together[0] += 1
        self._together[1] = max(self._together)
        await asyncio.sleep(0)
        self._together[0] -= 1
        self.is_right = True


async def test_all_that_need_it_are_put_right_thirty_two_at_a_time() -> None:
    together = [0, 0]
    parts = [Part(together) for _ in range(100)]

    await tidy(parts)

    assert all(part.is_right for part in parts)
    assert together == [0, 32]


async def test_what_is_in_order_is_looked_at_once_and_left_alone() -> None:
    part = Part([0, 0], is_untidy=False)

    await tidy([part])

    assert (part.stocks, part.is_right) == (1, False)
