import asyncio
import struct
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from kvplane.workers.engine import Delta, Engine, EngineRequest, Sampling
from kvplane.workers.simulated_engine import SimulatedSettings, simulated_engine
from kvplane.workers.weights import prepare

MODELS = Path(__file__).parents[2] / "build" / "models"
SETTINGS = SimulatedSettings(prefill_us_per_token=1000, decode_ms=5, blocks=64, block_tokens=16, prefill_chunk=40)


class Time:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def read(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def ask(tokens: Sequence[int], output: int = 3) -> EngineRequest:
    return EngineRequest("r", struct.pack(f"<{len(tokens)}I", *tokens), "s", Sampling(max_tokens=output))


async def answer(engine: Engine, request: EngineRequest) -> list[Delta]:
    async with asyncio.timeout(20):
        return [delta async for delta in engine.generate(request)]


async def test_a_prompt_costs_its_uncached_tokens_and_a_step_of_decoding_its_own_time() -> None:
    time = Time()
    async with simulated_engine(SETTINGS, time.sleep, time.read) as engine:
        cold = await answer(engine, ask(range(100)))
        after_cold = time.now
        warm = await answer(engine, ask(range(100)))

    assert round(cold[0].prefill_ms) == 100
    assert round(warm[0].prefill_ms) == 100 - 96
    assert round(after_cold * 1e3) == 100 + 2 * 5


async def test_sequences_that_decode_together_share_the_time_of_a_step() -> None:
    time = Time()
    async with simulated_engine(SETTINGS, time.sleep, time.read) as engine, asyncio.TaskGroup() as group:
        for start in (0, 100):
            group.create_task(answer(engine, ask(range(start, start + 10), output=5)))

    assert round(time.now * 1e3) == 20 + 4 * 5


async def test_a_prompt_waits_behind_the_one_before_it() -> None:
    time = Time()
    async with simulated_engine(SETTINGS, time.sleep, time.read) as engine, asyncio.TaskGroup() as group:
        first = group.create_task(answer(engine, ask(range(80), output=1)))
        second = group.create_task(answer(engine, ask(range(100, 180), output=1)))

    assert round(first.result()[0].queue_ms) == 0
    assert round(second.result()[0].queue_ms) == 80


async def test_text_is_lower_case_letters_and_the_same_for_the_same_prompt() -> None:
    tokenizer = Tokenizer.from_file(str(prepare("tiny", MODELS) / "tokenizer.json"))
    texts: list[str] = []
    for start in (0, 0, 1):
        async with simulated_engine(SETTINGS, Time().sleep) as engine:
            deltas = await answer(engine, ask(range(start, 30), output=40))
        texts.append(tokenizer.decode([delta.token_ids[0] for delta in deltas]))

    assert texts[0] == texts[1]
    assert texts[0] != texts[2]
    assert len(texts[0]) == 40
    assert set(texts[0]) <= set("abcdefghijklmnopqrstuvwxyz ")
