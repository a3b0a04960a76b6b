"""A client has the end of an answer once it is billed, and whatever else happens to one is billed right behind it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import pytest

from kvplane.directory import Served
from kvplane.workers import Capacity, Delta, EngineDead, Sampling, Ticket, Usage
from kvplane.workers.engine import EngineEvent, EngineLoad, EngineRequest
from kvplane.workers.serving import Serving

TICKET = Ticket("d1", "r1", 1, (), "", "", 0.0, 0, tenant="acme/default", issued_s=1795478400.0)
REQUEST = EngineRequest("d1", bytes(4 * 10), "", Sampling(max_tokens=3))


def delta(finish: str | None = None) -> Delta:
    return Delta((7,), cached_tokens=4, queue_ms=1.0, prefill_ms=2.0, finish=finish)  # type: ignore[arg-type]


class Scripted:
    """An engine of blocks of four tokens that yields what it is given, then dies if it has not finished."""

    def __init__(self, *deltas: Delta) -> None:
        self._deltas = deltas
        self.closed = False

    async def generate(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        try:
            for each in self._deltas:
                yield each
            raise EngineDead("out of script")
        finally:
            self.closed = True

    async def events(self) -> AsyncIterator[Sequence[EngineEvent]]:
        return
        yield

    def load(self) -> EngineLoad:
        return EngineLoad(0, 0, 0, 0)

    def capacity(self) -> Capacity:
        return Capacity(blocks=8, block_tokens=4, max_prompt_tokens=31, max_sequences=1)


class Bills:
    """Takes usage down once it is let."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.recorded: list[Usage] = []
        self.put_off: list[Usage] = []

    async def record(self, usage: Usage) -> None:
        await self.open.wait()
        self.recorded.append(usage)

    def later(self, usage: Usage) -> None:
        self.put_off.append(usage)


class Scene:
    """One request on a replica whose clock stands at 5 s when it arrives, and goes on by 2 s."""

    def __init__(self, *deltas: Delta) -> None:
        self.engine, self.bills, self.told, self.gone = Scripted(*deltas), Bills(), list[Served](), set[str]()
        times = iter((5.0, 7.0))
        serving = Serving("m", self.engine, self.bills, self.told.append, self.gone, lambda: next(times))
        self.stream = serving.generate(TICKET, REQUEST)


async def test_tokens_come_at_once_and_the_last_one_when_it_is_billed() -> None:
    scene = Scene(delta(), delta(), delta("length"))
    scene.bills.open.clear()
    before = [await anext(scene.stream), await anext(scene.stream)]
    last = asyncio.create_task(anext(scene.stream))
    for _ in range(10):
        await asyncio.sleep(0)
    waited = not last.done()
    scene.bills.open.set()
    end = await last
    await scene.stream.aclose()

    # 10 tokens are two blocks of 4 and two more; one block was there.
    assert [each.finish for each in before] == [None, None]
    assert waited
    assert end.finish == "length"
    assert scene.bills.recorded == [Usage("d1", 0, "acme/default", "m", 10, 4, 4, 3, "length", 1795478400.0)]
    assert scene.bills.put_off == []
    [told] = scene.told
    assert (told.finish, told.router) == ("length", "r1")
    assert (told.cached_tokens, told.output_tokens, told.total_ms) == (4, 3, 2000.0)


async def test_an_answer_that_is_left_early_ends_its_generation_and_is_billed_as_far_as_it_came() -> None:
    scene = Scene(delta(), delta(), delta("length"))
    await anext(scene.stream)
    await anext(scene.stream)
    await scene.stream.aclose()

    assert scene.engine.closed
    assert [(used.finish, used.output_tokens) for used in scene.bills.put_off] == [("cancelled", 2)]
    assert [(told.finish, told.output_tokens) for told in scene.told] == [("cancelled", 2)]
    assert scene.bills.recorded == []


async def test_an_engine_that_dies_is_told_of_and_its_tokens_are_billed() -> None:
    scene = Scene(delta())
    with pytest.raises(EngineDead):
        [_ async for _ in scene.stream]

    assert [(used.finish, used.output_tokens) for used in scene.bills.put_off] == [("failed", 1)]
    assert [told.finish for told in scene.told] == ["failed"]


async def test_an_engine_that_gives_no_token_wrote_nothing_and_all_the_time_was_waiting() -> None:
    scene = Scene()
    with pytest.raises(EngineDead):
        await anext(scene.stream)

    [used], [told] = scene.bills.put_off, scene.told
    assert (used.written_tokens, used.uncached_tokens, used.output_tokens) == (0, 10, 0)
    assert (told.queue_ms, told.prefill_ms) == (2000.0, 0.0)


async def test_a_client_that_leaves_while_its_answer_is_billed_is_billed_for_all_of_it() -> None:
    scene = Scene(delta(), delta("stop"))
    scene.bills.open.clear()
    await anext(scene.stream)
    last = asyncio.create_task(anext(scene.stream))
    await asyncio.sleep(0)
    last.cancel()
    await asyncio.wait([last])

    assert last.cancelled()
    assert [(used.finish, used.output_tokens) for used in scene.bills.put_off] == [("stop", 2)]
    assert [told.finish for told in scene.told] == ["stop"]


@pytest.mark.parametrize("next_delta", [delta(), delta("length")])
async def test_nothing_is_generated_on_for_a_router_that_is_gone(next_delta: Delta) -> None:
    scene = Scene(delta(), next_delta, delta("length"))
    await anext(scene.stream)
    scene.gone.add("r1")
    rest = [each async for each in scene.stream]

    assert rest == []
    assert scene.engine.closed
    assert scene.bills.recorded == []
    assert [(used.finish, used.output_tokens) for used in scene.bills.put_off] == [("interrupted", 2)]
    assert [told.finish for told in scene.told] == ["cancelled"]
