"""What every engine must do. To add one, add a line to `ENGINES`; it has 12 blocks of 8 tokens."""

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kvplane.workers.embedded_engine import EmbeddedSettings
from kvplane.workers.engine import (
    BlockHash,
    Delta,
    Engine,
    EngineDead,
    EngineRequest,
    Public,
    Removed,
    Sampling,
    Stored,
)
from kvplane.workers.engines import open_engine
from kvplane.workers.simulated_engine import SimulatedSettings

MODELS = Path(__file__).parents[2] / "build" / "models"
BELOW = {"cpu_blocks": 4, "disk_blocks": 16}
ENGINES: dict[str, EmbeddedSettings | SimulatedSettings] = {
    "embedded": EmbeddedSettings(
        model="tiny", cache=MODELS, blocks=12, block_tokens=8, max_sequences=4, prefill_chunk=16
    ),
    "simulated": SimulatedSettings(
        prefill_us_per_token=0, decode_ms=0, blocks=12, block_tokens=8, max_sequences=4, prefill_chunk=16
    ),
    "embedded with tiers": EmbeddedSettings(
        model="tiny", cache=MODELS, blocks=12, block_tokens=8, max_sequences=4, prefill_chunk=16, **BELOW
    ),
    "simulated with tiers": SimulatedSettings(
        prefill_us_per_token=1, decode_ms=0, blocks=12, block_tokens=8, max_sequences=4, prefill_chunk=16, **BELOW
    ),
}


@pytest.fixture(params=ENGINES)
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    async with asyncio.timeout(60), open_engine(ENGINES[request.param]) as opened:
        yield opened


def words(tokens: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(tokens)}I", *tokens)


def ask(tokens: Sequence[int], output: int = 5, salt: str = "s", stop: tuple[int, ...] = ()) -> EngineRequest:
    sampling = Sampling(max_tokens=output, temperature=0, ignore_eos=True, stop_token_ids=stop)
    return EngineRequest("r", words(tokens), salt, sampling)


async def answer(engine: Engine, request: EngineRequest) -> list[Delta]:
    return [delta async for delta in engine.generate(request)]


def tokens_of(deltas: Sequence[Delta]) -> list[int]:
    return [token for delta in deltas for token in delta.token_ids]


async def test_an_idle_engine_has_nothing_to_do_and_all_blocks_free(engine: Engine) -> None:
    load, capacity = engine.load(), engine.capacity()

    assert (load.waiting_prefill_tokens, load.running_sequences, load.decode_blocks, load.free_blocks) == (0, 0, 0, 12)
    assert (capacity.blocks, capacity.block_tokens, capacity.max_prompt_tokens) == (12, 8, 95)


async def test_a_generation_ends_once_and_at_its_length(engine: Engine) -> None:
    deltas = await answer(engine, ask(range(20)))

    assert len(tokens_of(deltas)) == 5
    assert [delta.finish for delta in deltas][-1] == "length"
    assert not any(delta.finish for delta in deltas[:-1])
    assert len({(delta.cached_tokens, delta.queue_ms, delta.prefill_ms) for delta in deltas}) == 1
    assert deltas[0].queue_ms >= 0
    assert engine.load().free_blocks == 12


async def test_a_stop_token_ends_a_generation_and_is_told(engine: Engine) -> None:
    free = tokens_of(await answer(engine, ask(range(20))))
    stopped = await answer(engine, ask(range(20), stop=(free[2],)))

    assert tokens_of(stopped) == free[: free.index(free[2]) + 1]
    assert stopped[-1].finish == "stop"


async def test_a_repeated_prompt_is_cached_but_for_its_last_token_and_answered_alike(engine: Engine) -> None:
    cold, warm = [await answer(engine, ask(range(32))) for _ in range(2)]

    assert (cold[0].cached_tokens, warm[0].cached_tokens) == (0, 24)
    assert tokens_of(cold) == tokens_of(warm)


async def test_a_conversation_reuses_what_was_decoded(engine: Engine) -> None:
    first = tokens_of(await answer(engine, ask(range(20), output=13)))
    second = await answer(engine, ask([*range(20), *first, 7]))

    assert second[0].cached_tokens == 32


async def test_public_blocks_are_shared_under_every_salt_and_answered_alike(engine: Engine) -> None:
    asked = [replace(ask(range(32), salt=salt), public=Public("public", 2)) for salt in "aab"]
    answers = [await answer(engine, request) for request in asked]
    elsewhere = await answer(engine, ask(range(32), salt="public"))

    assert [deltas[0].cached_tokens for deltas in (*answers, elsewhere)] == [0, 24, 16, 16]
    assert len({tuple(tokens_of(deltas)) for deltas in answers}) == 1


async def test_another_salt_shares_nothing(engine: Engine) -> None:
    await answer(engine, ask(range(20), salt="a"))
    other = await answer(engine, ask(range(20), salt="b"))

    assert other[0].cached_tokens == 0


async def test_requests_together_get_what_each_gets_alone(engine: Engine) -> None:
    requests = [ask(range(start, start + 9 + start)) for start in range(4)]
    alone = [tokens_of(await answer(engine, request)) for request in requests]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(answer(engine, request)) for request in requests]

    assert [tokens_of(task.result()) for task in tasks] == alone


async def test_more_than_fits_waits_and_ends(engine: Engine) -> None:
    requests = [ask(range(index, index + 40), output=30) for index in range(8)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(answer(engine, request)) for request in requests]

    assert all(len(tokens_of(task.result())) == 30 for task in tasks)
    assert engine.load().free_blocks == 12


async def test_the_longest_prompt_runs_and_one_token_more_is_refused(engine: Engine) -> None:
    longest = engine.capacity().max_prompt_tokens

    assert len(tokens_of(await answer(engine, ask(range(longest))))) == 1
    for refused in (longest + 1, 0):
        with pytest.raises(ValueError, match="1 to 95 tokens"):
            engine.generate(ask(range(refused)))


async def test_closing_the_iterator_frees_the_sequence(engine: Engine) -> None:
    stream = engine.generate(ask(range(20), output=70))
    assert isinstance(stream, AsyncGenerator)
    await anext(stream)
    assert engine.load().running_sequences == 1
    await stream.aclose()

    assert engine.load().running_sequences == 0
    assert engine.load().free_blocks == 12
    assert await answer(engine, ask(range(50, 80)))


async def test_a_cancelled_reader_frees_the_sequence(engine: Engine) -> None:
    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(answer(engine, ask(range(20 + index), output=60))) for index in range(6)]
        await anext(engine.generate(ask(range(5), output=1)))
        for reader in readers:
            reader.cancel()

    load = engine.load()
    assert (load.running_sequences, load.waiting_prefill_tokens, load.free_blocks) == (0, 0, 12)


async def test_events_tell_what_is_stored_whole_in_order_and_under_which_salt(engine: Engine) -> None:
    output = tokens_of(await answer(engine, ask(range(20), output=6, salt="secret")))
    stored: list[Stored] = []
    async for events in engine.events():
        stored.extend(event for event in events if isinstance(event, Stored))
        if sum(len(event.hashes) for event in stored) == 3:
            break

    assert b"".join(event.words for event in stored) == words([*range(20), *output])[: 24 * 4]
    assert stored[0].parent is None
    assert stored[0].salt == "secret"
    assert [event.parent for event in stored[1:]] == [event.hashes[-1] for event in stored[:-1]]


async def test_events_replayed_never_hold_more_than_the_engine_can(engine: Engine) -> None:
    for start in range(0, 200, 50):
        await answer(engine, ask(range(start, start + 50), output=1))
    held: set[BlockHash] = set()
    stored = 0
    async for events in engine.events():
        for event in events:
            match event:
                case Stored(tier="gpu"):
                    held.update(event.hashes)
                    stored += len(event.hashes)
                case Removed(tier="gpu"):
                    assert held.issuperset(event.hashes)
                    held.difference_update(event.hashes)
        assert len(held) <= 12
        if stored == 4 * 6:
            break


async def test_a_closed_engine_is_dead_to_all_who_ask() -> None:
    for settings in ENGINES.values():
        async with open_engine(settings) as engine:
            waiting = engine.generate(ask(range(20), output=70))
            await anext(waiting)

        with pytest.raises(EngineDead, match="closed"):
            await answer(engine, ask(range(5)))
        with pytest.raises(EngineDead, match="closed"):
            engine.load()
        with pytest.raises(EngineDead, match="closed"):
            [delta async for delta in waiting]
