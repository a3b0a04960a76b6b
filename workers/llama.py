"""A Llama in numpy over a paged KV cache: prefill chunks and decodes of many sequences in one pass.

One BLAS thread a replica is the intended use: whoever starts the process sets OPENBLAS_NUM_THREADS=1 before numpy
is imported, since OpenBLAS reads it only then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .model_folder import Array, ModelConfig

_ROWS = 64  # attention goes by so many rows at a time: fewer scores beyond the diagonal, and they stay in cache
_PANEL = 512  # rows of the head that stay in cache while every sequence's last row is multiplied with them


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of one sequence at positions `start`, `start + 1`, ...; `blocks` holds everything up to the last."""

    tokens: npt.NDArray[np.uint32]
    start: int
    blocks: tuple[int, ...]
    wants_logits: bool  # of the last token

    @property
    def adjacent(self) -> bool:
        """Whether the blocks lie in the pool as they do in the sequence."""
        return self.blocks == tuple(range(self.blocks[0], self.blocks[0] + len(self.blocks)))


class Llama:
    """Weights, which it does not write, and the KV cache, which only `forward` and `fill_block` write."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, Array], *, blocks: int, block_tokens: int) -> None:
        self.config = config
        self._weights = weights
        self._block_tokens = block_tokens
        shape = (config.layers, config.kv_heads, blocks, block_tokens, config.head)
        self._keys = np.zeros(shape, np.float32)
        self._values = np.zeros(shape, np.float32)
        frequencies = config.rope_base ** (-np.arange(0, config.head, 2) / config.head)
        angles = np.outer(np.arange(config.context), frequencies)
        self._cos, self._sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    @property
    def block_shape(self) -> tuple[int, ...]:
        """[keys and values, layer, kv head, token, head]."""
        layers, kv_heads, _, tokens, head = self._keys.shape
        return 2, layers, kv_heads, tokens, head

    def copy_block(self, block: int) -> Array:
        """A copy of all layers' keys and values."""
        return np.stack((self._keys[:, :, block], self._values[:, :, block]))

    def fill_block(self, block: int, kv: Array) -> None:
        """Put back what `copy_block` gave, in whichever block."""
        self._keys[:, :, block], self._values[:, :, block] = kv

    def take_memory(self) -> None:
        """Touch the whole cache: with huge pages the first chunk would do it, a second or two late."""
        self._keys.fill(0)
        self._values.fill(0)

    def forward(self, chunks: Sequence[Chunk]) -> Array:
        """Compute and keep the KV of all tokens; return [chunks that want logits, vocabulary]."""
        positions = np.concatenate([np.arange(c.start, c.start + len(c.tokens)) for c in chunks])
        slots = np.concatenate([_slots(chunk, self._block_tokens) for chunk in chunks])
        hidden = self._weights["embedding"][np.concatenate([chunk.tokens for chunk in chunks])]
        with np.errstate(over="ignore"):  # exp(-gate) may be inf: the gate is then 0, as it should be
            for layer in range(self.config.layers):
                hidden += self._attend(layer, self._norm(hidden), chunks, positions, slots)
                hidden += self._mlp(layer, self._norm(hidden))
        ends = np.cumsum([len(chunk.tokens) for chunk in chunks]) - 1
        last = hidden[[end for end, chunk in zip(ends, chunks, strict=True) if chunk.wants_logits]]
        return self._logits(self._norm(last) * self._weights["norm"])

    def _norm(self, hidden: Array) -> Array:
        """RMSNorm without its weight (Zhang and Sennrich, 2019)."""
        mean_square = np.einsum("ij,ij->i", hidden, hidden) / np.float32(self.config.hidden)
        scale: Array = 1 / np.sqrt(mean_square + np.float32(self.config.norm_eps))
        return hidden * scale[:, None]

    def _mlp(self, layer: int, hidden: Array) -> Array:
        """SwiGLU (Shazeer, 2020)."""
        gate_up = _multiply(hidden, self._weights[f"{layer}.gate_up"])
        gate, up = gate_up[:, : self.config.ffn], gate_up[:, self.config.ffn :]
        up *= gate / (1 + np.exp(-gate))
        return _multiply(up, self._weights[f"{layer}.down"])

    def _attend(
        self,
        layer: int,
        hidden: Array,
        chunks: Sequence[Chunk],
        positions: npt.NDArray[np.intp],
        slots: npt.NDArray[np.intp],
    ) -> Array:
        config = self.config
        heads = _multiply(hidden, self._weights[f"{layer}.qkv"]).reshape(len(hidden), -1, config.head)
        rotated = config.heads + config.kv_heads
        self._rotate(heads[:, :rotated], positions)
        flat = (config.kv_heads, -1, config.head)
        self._keys[layer].reshape(flat)[:, slots] = heads[:, config.heads : rotated].swapaxes(0, 1)
        self._values[layer].reshape(flat)[:, slots] = heads[:, rotated:].swapaxes(0, 1)
        mixed = np.empty((len(hidden), config.heads * config.head), np.float32)
        row = 0
        for chunk in chunks:
            rows = slice(row, row + len(chunk.tokens))
            keys, values = (_gather(cache[layer], chunk) for cache in (self._keys, self._values))
            _attention(heads[rows, : config.heads], keys, values, chunk.start, mixed[rows])
            row = rows.stop
        return _multiply(mixed, self._weights[f"{layer}.out"])

    def _rotate(self, heads: Array, positions: npt.NDArray[np.intp]) -> None:
        """Rotary position embedding, halves of a head apart, in place (Su et al., 2021)."""
        half = self.config.head // 2
        cos, sin = self._cos[positions][:, None], self._sin[positions][:, None]
        first, second = heads[..., :half].copy(), heads[..., half:]
        heads[..., :half] = first * cos - second * sin
        second *= cos
        second += first * sin

    def _logits(self, hidden: Array) -> Array:
        head = self._weights["embedding" if self.config.tied else "head"]
        logits = np.empty((len(hidden), len(head)), np.float32)
        for panel in range(0, len(head), _PANEL):
            for row, out in zip(hidden, logits, strict=True):
                np.dot(head[panel : panel + _PANEL], row, out=out[panel : panel + _PANEL])
        return logits


def _multiply(rows: Array, weight: Array) -> Array:
    """Matrix product; one or two rows go one by one, which spares BLAS the packing of the whole weight."""
    if len(rows) > 2:
        return rows @ weight
    product = np.empty((len(rows), weight.shape[1]), np.float32)
    for row, out in zip(rows, product, strict=True):
        np.dot(row, weight, out=out)
    return product


def _slots(chunk: Chunk, block_tokens: int) -> npt.NDArray[np.intp]:
    """Where each token's KV goes, counted in tokens over the whole pool."""
    block, offset = np.divmod(np.arange(chunk.start, chunk.start + len(chunk.tokens)), block_tokens)
    slots: npt.NDArray[np.intp] = np.asarray(chunk.blocks)[block] * block_tokens + offset
    return slots


def _gather(cache: Array, chunk: Chunk) -> Array:
    """Bring a sequence's blocks together as [kv head, token, head]; adjacent ones cost no copy."""
    first, count = chunk.blocks[0], len(chunk.blocks)
    found = cache[:, first : first + count] if chunk.adjacent else np.take(cache, chunk.blocks, axis=1)
    return found.reshape(len(cache), -1, cache.shape[-1])


def _attention(queries: Array, keys: Array, values: Array, start: int, out: Array) -> None:
    """Causal grouped-query attention of one sequence's rows; queries are [row, head, head size], scaled already."""
    rows, heads, size = queries.shape
    groups = len(keys)
    grouped = queries.reshape(rows, groups, heads // groups, size).transpose(1, 2, 0, 3)
    mixed = out.reshape(rows, groups, heads // groups, size).transpose(1, 2, 0, 3)
    for row in range(0, rows, _ROWS):
        asked = grouped[:, :, row : row + _ROWS].reshape(groups, -1, size)
        count = asked.shape[1] // (heads // groups)
        seen = start + row + count
        scores = asked @ keys[:, :seen].swapaxes(1, 2)
        square = scores.reshape(groups, -1, count, seen)[..., seen - count :]
        square[..., ~np.tri(count, dtype=bool)] = -np.inf
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        weighted = (scores @ values[:, :seen]) / scores.sum(axis=-1, keepdims=True)
        mixed[:, :, row : row + count] = weighted.reshape(groups, -1, count, size)
