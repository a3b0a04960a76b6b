import asyncio
import struct
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from kvplane.controlplane.replay.virtual_time import LeapingLoop
from kvplane.workers.engine import Delta, Engine, EngineRequest, Sampling
from kvplane.workers.simulated_engine import SimulatedSettings, simulated_engine
from kvplane.workers.weights import prepare

MODELS = Path(__file__).parents[2] / "build" / "models"
TIERS = SimulatedSettings(
    prefill_us_per_token=1000, cpu_us_per_token=100, disk_us_per_token=500, decode_ms=0, blocks=7, block_tokens=16,
    cpu_blocks=8, disk_blocks=64,
)  # fmt: skip
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


async def costs_of(settings: SimulatedSettings, starts: Sequence[int]) -> list[tuple[int, float, float]]:
    """Ask for prompts of 100 tokens, one behind the other: what was cached, and milliseconds queued and computed."""
    found = []
    async with simulated_engine(settings, asyncio.sleep, asyncio.get_running_loop().time) as engine:
        for start in starts:
            delta = (await answer(engine, ask(range(start, start + 100), output=1)))[0]
            found.append((delta.cached_tokens, round(delta.queue_ms, 3), round(delta.prefill_ms, 3)))
            await asyncio.sleep(1)  # writes take no time, but a turn
    return found


def played(settings: SimulatedSettings, *starts: int) -> list[tuple[int, float, float]]:
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        return runner.run(costs_of(settings, starts))


def test_what_was_evicted_comes_back_at_the_price_of_its_tier() -> None:
    cold, warm = (0, 0, 100), (96, 0, 9.6 + 4)
    from_disk = (96, 48, 9.6 + 4)

    assert played(TIERS, 0, 200, 0) == [cold, cold, warm]
    assert played(TIERS.model_copy(update={"cpu_blocks": 0}), 0, 200, 0) == [cold, cold, from_disk]
    assert played(TIERS.model_copy(update={"cpu_blocks": 0, "disk_blocks": 0}), 0, 200, 0) == [cold, cold, cold]


def test_of_blocks_in_two_tiers_only_those_on_disk_are_read() -> None:
    # The end of a prompt is evicted first, so of its 6 blocks the last two went on to disk.
    [*_, again] = played(TIERS.model_copy(update={"cpu_blocks": 4}), 0, 200, 0)

    assert again == (96, 2 * 16 * 0.5, 9.6 + 4)


def test_what_takes_longer_to_fetch_than_to_compute_is_computed() -> None:
    slow = TIERS.model_copy(update={"cpu_blocks": 0, "disk_us_per_token": 950})

    assert played(slow, 0, 200, 0)[-1] == (0, 0, 100)


def test_a_prompt_that_is_read_from_disk_holds_nobody_up() -> None:
    async def scene() -> list[float]:
        loop = asyncio.get_running_loop()
        roomy = TIERS.model_copy(update={"cpu_blocks": 0, "blocks": 9})
        async with simulated_engine(roomy, asyncio.sleep, loop.time) as engine:
            for start in (0, 200, 400):
                await answer(engine, ask(range(start, start + 100), output=1))
                await asyncio.sleep(1)
            began, ended = loop.time(), []

            async def one(tokens: range) -> None:
                await answer(engine, ask(tokens, output=1))
                ended.append(round((loop.time() - began) * 1e3, 1))

            async with asyncio.TaskGroup() as group:
                group.create_task(one(range(100)))
                group.create_task(one(range(300, 320)))
            return ended

    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        newcomer, read = runner.run(scene())

    assert newcomer == 20
    assert read == 48 + 9.6 + 4
