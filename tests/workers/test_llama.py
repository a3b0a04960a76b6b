from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from kvplane.workers.llama import Chunk, Llama
from kvplane.workers.model_folder import Array, ModelConfig, map_weights, read_config
from kvplane.workers.weights import prepare

MODELS = Path(__file__).parents[2] / "build" / "models"
Tokens = npt.NDArray[np.uint32]
PROMPT: Tokens = np.random.default_rng(3).integers(0, 259, 300).astype(np.uint32)
BLOCKS = tuple(range(10))


@pytest.fixture(scope="module")
def folder() -> Path:
    return prepare("tiny", MODELS)


def llama(folder: Path) -> Llama:
    config = read_config(folder)
    return Llama(config, map_weights(folder, config), blocks=24, block_tokens=32)


def prefill(model: Llama, tokens: Tokens, blocks: tuple[int, ...], chunk: int = 1000, start: int = 0) -> Array:
    for begin in range(start, len(tokens), chunk):
        logits = model.forward([Chunk(tokens[begin : begin + chunk], begin, blocks, True)])
    row: Array = logits[0]
    return row


def reference(config: ModelConfig, weights: Mapping[str, Array], tokens: Tokens) -> npt.NDArray[np.float64]:
    """The textbook's Llama: float64, no cache, one token's logits."""
    wide = {name: weight.astype(np.float64) for name, weight in weights.items()}
    half, count = config.head // 2, len(tokens)
    angles = np.outer(np.arange(count), config.rope_base ** (-2 * np.arange(half) / config.head))
    turn = np.exp(1j * angles)[:, None]

    def norm(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        scale: npt.NDArray[np.float64] = np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_eps)
        return x / scale

    def rotate(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        turned = (x[..., :half] + 1j * x[..., half:]) * turn
        return np.concatenate([turned.real, turned.imag], -1)

    x = wide["embedding"][tokens]
    for layer in range(config.layers):
        heads = (norm(x) @ wide[f"{layer}.qkv"]).reshape(count, -1, config.head)
        query, key, value = np.split(heads, [config.heads, config.heads + config.kv_heads], axis=1)
        group = config.heads // config.kv_heads
        key, value = np.repeat(rotate(key), group, 1), np.repeat(value, group, 1)
        scores = np.einsum("qhd,khd->hqk", rotate(query), key)
        scores = np.exp(np.where(np.tri(count, dtype=bool), scores, -np.inf))
        mixed = np.einsum("hqk,khd->qhd", scores / scores.sum(-1, keepdims=True), value)
        x = x + mixed.reshape(count, -1) @ wide[f"{layer}.out"]
        gate, up = np.split(norm(x) @ wide[f"{layer}.gate_up"], 2, axis=1)
        x = x + (gate / (1 + np.exp(-gate)) * up) @ wide[f"{layer}.down"]
    logits: npt.NDArray[np.float64] = (norm(x[-1:]) * wide["norm"] @ wide["embedding"].T)[0]
    return logits


def test_logits_are_those_of_the_textbook(folder: Path) -> None:
    model, config = llama(folder), read_config(folder)

    assert prefill(model, PROMPT, BLOCKS) == pytest.approx(
        reference(config, map_weights(folder, config), PROMPT), abs=1e-4
    )


def test_a_cached_prefix_gives_the_logits_of_a_cold_prompt(folder: Path) -> None:
    cold = prefill(llama(folder), PROMPT, BLOCKS)
    warm = llama(folder)
    prefill(warm, np.append(PROMPT[:256], [7, 7, 7]).astype(np.uint32), BLOCKS)
    moved = prefill(warm, PROMPT, (*BLOCKS[:8], 20, 21), start=256)

    assert np.abs(cold).max() > 0.1
    assert np.abs(cold - moved).max() < 1e-4
    assert cold.argmax() == moved.argmax()


@pytest.mark.parametrize("chunk", [1, 32, 100])
def test_the_size_of_chunks_does_not_matter(folder: Path, chunk: int) -> None:
    whole, chunked = prefill(llama(folder), PROMPT[:150], BLOCKS), prefill(llama(folder), PROMPT[:150], BLOCKS, chunk)

    assert np.abs(whole - chunked).max() < 1e-4


def test_blocks_may_lie_anywhere(folder: Path) -> None:
    adjacent, scattered = (
        prefill(llama(folder), PROMPT, blocks) for blocks in (BLOCKS, (5, 23, 1, 9, 0, 2, 14, 13, 12, 11))
    )

    assert np.abs(adjacent - scattered).max() < 1e-4


def test_a_batch_gives_each_sequence_what_it_gets_alone(folder: Path) -> None:
    alone = [prefill(llama(folder), PROMPT[:length], BLOCKS) for length in (40, 90, 33)]
    model = llama(folder)
    prefill(model, PROMPT[:39], (0, 1))
    prefill(model, PROMPT[:50], (2, 3, 4))
    together = model.forward(
        [
            Chunk(PROMPT[39:40], 39, (0, 1), True),
            Chunk(PROMPT[50:90], 50, (2, 3, 4), True),
            Chunk(PROMPT[:20], 0, (8,), False),
            Chunk(PROMPT[:33], 0, (6, 5), True),
        ]
    )

    assert together.shape == (3, 259)
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one - other).max() < 1e-4


def test_blocks_put_elsewhere_are_used_to_the_bit_as_where_they_were_computed(folder: Path) -> None:
    model, elsewhere = llama(folder), tuple(range(23, 13, -1))
    prefill(model, PROMPT[:288], BLOCKS)
    kept = [model.copy_block(block) for block in BLOCKS[:9]]
    here = prefill(model, PROMPT, BLOCKS, start=288)
    for block, kv in zip(elsewhere[:9], kept, strict=True):
        model.fill_block(block, kv)
    prefill(model, PROMPT[::-1], BLOCKS)  # copies do not change with what they were taken from

    assert {kv.shape for kv in kept} == {model.block_shape}
    assert np.array_equal(prefill(model, PROMPT, elsewhere, start=288), here)
    assert all(np.array_equal(model.copy_block(block), kv) for block, kv in zip(elsewhere, kept, strict=False))
