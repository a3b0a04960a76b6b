"""Reads a Llama-family GGUF file: shape, weights, byte-level BPE tokenizer, chat template."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from .model_folder import Array, BadModel, ModelConfig, ModelSource

_CONTROL, _USER_DEFINED = 3, 4  # GGUF token types that are matched before the text is split


class _Gguf:
    """A file's metadata by key, its tensors by name."""

    def __init__(self, path: Path) -> None:
        try:
            reader = GGUFReader(path)
        except (OSError, ValueError, IndexError) as exc:
            raise BadModel(f"{path} cannot be read as GGUF: {exc}") from exc
        self.fields = {key: field.contents() for key, field in reader.fields.items()}
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}

    def need(self, key: str) -> Any:  # Any: a GGUF value is a number, a string or a list of them
        if key not in self.fields:
            raise BadModel(f"the GGUF file lacks {key}")
        return self.fields[key]

    def tensor(self, name: str) -> Array:
        if name not in self.tensors:
            raise BadModel(f"the GGUF file lacks the tensor {name}")
        tensor = self.tensors[name]
        shape = tuple(int(size) for size in reversed(tensor.shape))
        return np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32).reshape(shape)


def read_gguf(path: Path) -> ModelSource:
    """Open a file; tensors are dequantised one layer at a time as they are asked for. Raises `BadModel`."""
    gguf = _Gguf(path)
    if (architecture := gguf.need("general.architecture")) != "llama":
        raise BadModel(f"{path} is of architecture {architecture}; the embedded engine runs llama")
    config = _config(gguf)
    unknown = set(gguf.tensors) - _known(config)
    if unknown:
        raise BadModel(f"{path} has tensors the embedded engine does not use: {', '.join(sorted(unknown)[:5])}")
    template = gguf.fields.get("tokenizer.chat_template")
    return ModelSource(config, _tokenizer(gguf), template, _tensors(gguf, config))


def _config(gguf: _Gguf) -> ModelConfig:
    heads = int(gguf.need("llama.attention.head_count"))
    hidden = int(gguf.need("llama.embedding_length"))
    return ModelConfig(
        layers=int(gguf.need("llama.block_count")),
        hidden=hidden,
        ffn=int(gguf.need("llama.feed_forward_length")),
        heads=heads,
        kv_heads=int(gguf.fields.get("llama.attention.head_count_kv", heads)),
        head=int(gguf.fields.get("llama.attention.key_length", hidden // heads)),
        vocabulary=len(gguf.need("tokenizer.ggml.tokens")),
        context=int(gguf.need("llama.context_length")),
        rope_base=float(gguf.fields.get("llama.rope.freq_base", 10000.0)),
        norm_eps=float(gguf.need("llama.attention.layer_norm_rms_epsilon")),
        tied="output.weight" not in gguf.tensors,
        bos_id=_bos_id(gguf),
        eos_ids=_eos_ids(gguf),
    )


def _bos_id(gguf: _Gguf) -> int | None:
    """Only where the model wants one before every prompt; templates write their own."""
    return int(gguf.need("tokenizer.ggml.bos_token_id")) if gguf.fields.get("tokenizer.ggml.add_bos_token") else None


def _eos_ids(gguf: _Gguf) -> tuple[int, ...]:
    keys = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
    tokens = gguf.need("tokenizer.ggml.tokens")
    named = [index for index, token in enumerate(tokens) if token in {"<|endoftext|>", "<|im_end|>", "<|eot_id|>"}]
    return tuple(sorted({int(gguf.fields[key]) for key in keys if key in gguf.fields}.union(named)))


def _known(config: ModelConfig) -> set[str]:
    parts = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
    layers = {f"blk.{layer}.{part}.weight" for layer in range(config.layers) for part in parts}
    return layers | {"token_embd.weight", "output_norm.weight", "output.weight"}


def _tensors(gguf: _Gguf, config: ModelConfig) -> Iterator[tuple[str, Array]]:
    yield "embedding", gguf.tensor("token_embd.weight")
    for layer in range(config.layers):
        block = f"blk.{layer}."
        norm = gguf.tensor(block + "attn_norm.weight")
        query = _half_split(gguf.tensor(block + "attn_q.weight"), config.heads) / np.sqrt(np.float32(config.head))
        key = _half_split(gguf.tensor(block + "attn_k.weight"), config.kv_heads)
        value = gguf.tensor(block + "attn_v.weight")
        yield f"{layer}.qkv", (np.concatenate([query, key, value]) * norm).T
        yield f"{layer}.out", gguf.tensor(block + "attn_output.weight").T
        norm = gguf.tensor(block + "ffn_norm.weight")
        gate_up = [gguf.tensor(block + "ffn_gate.weight"), gguf.tensor(block + "ffn_up.weight")]
        yield f"{layer}.gate_up", (np.concatenate(gate_up) * norm).T
        yield f"{layer}.down", gguf.tensor(block + "ffn_down.weight").T
    yield "norm", gguf.tensor("output_norm.weight")
    if not config.tied:
        yield "head", gguf.tensor("output.weight")


def _half_split(weight: Array, heads: int) -> Array:
    """Undo GGUF's order of rows for interleaved rotary pairs: the halves of a head lie apart again."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _tokenizer(gguf: _Gguf) -> Any:  # Any: tokenizers carries no types
    kind, pre = gguf.need("tokenizer.ggml.model"), gguf.fields.get("tokenizer.ggml.pre")
    if (kind, pre) != ("gpt2", "smollm"):
        raise BadModel(f"the tokenizer is {kind}/{pre}; the embedded engine knows gpt2/smollm")
    tokens = gguf.need("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ", 1)) for merge in gguf.need("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    digits, split = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, split])
    tokenizer.decoder = decoders.ByteLevel()
    types = gguf.need("tokenizer.ggml.token_type")
    tokenizer.add_tokens(
        [
            AddedToken(token, special=kind == _CONTROL, normalized=False)
            for token, kind in zip(tokens, types, strict=True)
            if kind in (_CONTROL, _USER_DEFINED)
        ]
    )
    return tokenizer
