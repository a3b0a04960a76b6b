"""The engine's contract (tests/workers/test_engine_contract.py) on real vLLM, whose blocks have 32 tokens on CPU."""

import asyncio
import random
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from itertools import pairwise

import pytest
import pytest_asyncio

from kvplane.workers.embedded_engine import EmbeddedSettings
from kvplane.workers.engine import (
    BlockHash,
    Delta,
    Engine,
    EngineDead,
    EngineEvent,
    EngineRequest,
    Public,
    Removed,
    Sampling,
    Stored,
)
from kvplane.workers.engines import open_engine
from kvplane.workers.vllm_settings import VllmSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE_S = 30


class Told:
    """The engine's events so far, read by the one reader there may be."""

    def __init__(self) -> None:
        self.events: list[EngineEvent] = []
        self._more = asyncio.Event()

    async def listen(self, engine: Engine) -> None:
        async for batch in engine.events():
            self.events.extend(batch)
            self._more.set()

    async def once(self, wanted: Callable[[list[EngineEvent]], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not wanted(self.events):
                self._more.clear()
                await self._more.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tiny: VllmSettings) -> AsyncIterator[Engine]:
    async with open_engine(tiny) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(engine: Engine) -> AsyncIterator[Told]:
    told = Told()
    listening = asyncio.create_task(told.listen(engine))
    yield told
    listening.cancel()
    await asyncio.wait([listening])


def prompt(seed: int, tokens: int) -> list[int]:
    """No two seeds' begin alike."""
    return random.Random(seed).choices(range(3, 259), k=tokens)


def ask(
    tokens: Sequence[int], output: int = 5, salt: str = "s", stop: tuple[int, ...] = (), public: Public | None = None
) -> EngineRequest:
    sampling = Sampling(max_tokens=output, temperature=0, ignore_eos=True, stop_token_ids=stop)
    return EngineRequest("r", struct.pack(f"<{len(tokens)}I", *tokens), salt, sampling, public)


async def answer(engine: Engine, request: EngineRequest) -> list[Delta]:
    return [delta async for delta in engine.generate(request)]


def tokens_of(deltas: Sequence[Delta]) -> list[int]:
    return [token for delta in deltas for token in delta.token_ids]


async def test_an_idle_engine_has_nothing_to_do_and_all_blocks_free(engine: Engine) -> None:
    load, capacity = engine.load(), engine.capacity()

    assert (load.waiting_prefill_tokens, load.running_sequences, load.decode_blocks, load.free_blocks) == (0, 0, 0, 64)
    assert (capacity.blocks, capacity.block_tokens, capacity.max_prompt_tokens, capacity.max_sequences) == (
        64,
        32,
        2047,
        8,
    )


async def test_it_says_what_the_embedded_engine_says_of_the_same_model(engine: Engine, tiny: VllmSettings) -> None:
    request = ask(prompt(1, 300), output=20)
    async with open_engine(EmbeddedSettings(model="tiny", cache=tiny.cache, blocks=64)) as embedded:
        expected = tokens_of(await answer(embedded, request))

    assert tokens_of(await answer(engine, request)) == expected


async def test_a_generation_ends_once_and_at_its_length(engine: Engine) -> None:
    deltas = await answer(engine, ask(prompt(2, 80)))

    assert len(tokens_of(deltas)) == 5
    assert [delta.finish for delta in deltas] == [None] * (len(deltas) - 1) + ["length"]
    assert len({(delta.cached_tokens, delta.queue_ms, delta.prefill_ms) for delta in deltas}) == 1
    assert deltas[0].queue_ms >= 0
    assert deltas[0].prefill_ms > 0
    assert engine.load().free_blocks == 64


async def test_a_stop_token_ends_a_generation_and_is_told(engine: Engine) -> None:
    free = tokens_of(await answer(engine, ask(prompt(3, 80))))
    stopped = await answer(engine, ask(prompt(3, 80), stop=(free[2],)))

    assert tokens_of(stopped) == free[: free.index(free[2]) + 1]
    assert stopped[-1].finish == "stop"


async def test_a_repeated_prompt_is_cached_but_for_its_last_token_and_answered_alike(engine: Engine) -> None:
    cold, warm = [await answer(engine, ask(prompt(4, 128))) for _ in range(2)]

    assert (cold[0].cached_tokens, warm[0].cached_tokens) == (0, 96)
    assert tokens_of(cold) == tokens_of(warm)


async def test_a_conversation_reuses_what_was_decoded(engine: Engine) -> None:
    begun = prompt(5, 80)
    first = tokens_of(await answer(engine, ask(begun, output=49)))
    second = await answer(engine, ask([*begun, *first, 7]))

    assert second[0].cached_tokens == 128


async def test_another_salt_shares_nothing(engine: Engine) -> None:
    first = await answer(engine, ask(prompt(6, 100), salt="a"))
    other = await answer(engine, ask(prompt(6, 100), salt="b"))

    assert other[0].cached_tokens == 0
    assert tokens_of(other) == tokens_of(first)


async def test_public_blocks_are_shared_under_every_salt_and_answered_alike(engine: Engine) -> None:
    asked = [ask(prompt(7, 128), salt=salt, public=Public("public", 2)) for salt in "aab"]
    answers = [await answer(engine, request) for request in asked]
    elsewhere = await answer(engine, ask(prompt(7, 128), salt="public"))
    unshared = await answer(engine, ask(prompt(7, 128), salt="a"))

    assert [deltas[0].cached_tokens for deltas in (*answers, elsewhere, unshared)] == [0, 96, 64, 64, 0]
    assert len({tuple(tokens_of(deltas)) for deltas in answers}) == 1


async def test_more_than_fits_waits_and_ends(engine: Engine) -> None:
    requests = [ask(prompt(100 + index, 500), output=40) for index in range(12)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(answer(engine, request)) for request in requests]

    assert all(len(tokens_of(task.result())) == 40 for task in tasks)
    assert engine.load().free_blocks == 64


@pytest.mark.parametrize("refused", [2048, 0])
async def test_the_longest_prompt_runs_and_another_length_is_refused(engine: Engine, refused: int) -> None:
    assert len(tokens_of(await answer(engine, ask(prompt(8, 2047))))) == 1
    with pytest.raises(ValueError, match="1 to 2047 tokens"):
        engine.generate(ask(prompt(8, refused)))


async def test_a_token_that_the_model_has_not_is_refused_and_harms_nobody(engine: Engine) -> None:
    with pytest.raises(ValueError, match="below 259"):
        engine.generate(ask([5, 259]))

    assert await answer(engine, ask(prompt(9, 40)))


async def test_closing_the_iterator_frees_the_sequence(engine: Engine) -> None:
    stream = engine.generate(ask(prompt(10, 80), output=1500))
    await anext(stream)
    running = engine.load()
    await stream.aclose()

    assert (running.running_sequences, running.free_blocks) == (1, 61)
    assert (engine.load().running_sequences, engine.load().free_blocks) == (0, 64)
    assert (await answer(engine, ask(prompt(10, 2000), output=48)))[-1].finish == "length"


async def test_a_cancelled_reader_frees_the_sequence(engine: Engine) -> None:
    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(answer(engine, ask(prompt(200 + index, 80), output=1500))) for index in range(10)]
        await answer(engine, ask(prompt(210, 20), output=1))
        for reader in readers:
            reader.cancel()

    load = engine.load()
    assert (load.running_sequences, load.waiting_sequences, load.waiting_prefill_tokens, load.free_blocks) == (
        0,
        0,
        0,
        64,
    )


async def test_what_waits_counts_without_what_the_cache_will_spare(engine: Engine, told: Told) -> None:
    words = ask(prompt(11, 640)).words
    await answer(engine, ask(prompt(11, 640)))
    await told.once(lambda events: any(isinstance(event, Stored) and event.words == words for event in events))
    loads = []
    for tokens in (prompt(11, 650), prompt(12, 640)):
        async with aclosing(engine.generate(ask([*prompt(11, 640), 9] if len(tokens) == 650 else tokens))) as stream:
            first = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            loads.append(engine.load())
            await first

    assert [(load.waiting_prefill_tokens, load.waiting_sequences) for load in loads] == [(1, 1), (640, 1)]


async def test_events_tell_what_is_stored_whole_in_order_and_under_which_salt(engine: Engine, told: Told) -> None:
    begun = prompt(13, 80)
    output = tokens_of(await answer(engine, ask(begun, output=20, salt="secret")))
    before = len(begun) + len(output)
    await told.once(lambda events: sum(len(stored.hashes) for stored in _under("secret", events)) == before // 32)
    stored = _under("secret", told.events)

    assert b"".join(event.words for event in stored) == struct.pack("<100I", *begun, *output)[: 96 * 4]
    assert (stored[0].parent, stored[0].salt) == (None, "secret")
    assert [after.parent for _, after in pairwise(stored)] == [event.hashes[-1] for event in stored[:-1]]


async def test_events_replayed_never_hold_more_than_the_engine_can(engine: Engine, told: Told) -> None:
    for seed in range(300, 306):
        await answer(engine, ask(prompt(seed, 640), output=1, salt=f"of {seed}"))
    await told.once(lambda events: sum(len(stored.hashes) for stored in _under("of 305", events)) == 20)
    held = Counter[BlockHash]()
    most = 0
    for event in told.events:
        match event:
            case Stored():
                held.update(event.hashes)
            case Removed():
                held.subtract(event.hashes)
        assert min(held.values(), default=0) >= 0
        most = max(most, held.total())

    assert most == 64


async def test_a_closed_engine_is_dead_to_all_who_ask(tiny: VllmSettings) -> None:
    async with open_engine(tiny) as engine:
        waiting = engine.generate(ask(prompt(14, 80), output=1500))
        await anext(waiting)

    with pytest.raises(EngineDead, match="closed"):
        await answer(engine, ask(prompt(14, 5)))
    with pytest.raises(EngineDead, match="closed"):
        engine.load()
    with pytest.raises(EngineDead, match="closed"):
        [delta async for delta in waiting]


def _under(salt: str, events: Sequence[EngineEvent]) -> list[Stored]:
    """What was stored from the first block under a salt on, behind one another."""
    found: list[Stored] = []
    for event in events:
        if isinstance(event, Stored) and (event.salt == salt or (found and event.parent == found[-1].hashes[-1])):
            found.append(event)
    return found
