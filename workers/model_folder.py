"""A prepared model: a folder whose one weights file all replicas of a machine map into memory together.

    config.json   tokenizer.json   weights.f32   chat_template.jinja (where the model has one)

weights.f32 is every tensor of `layout` in order, little-endian float32, nothing between. Matrices are stored
[in, out], except the embedding and the head, [vocabulary, hidden]. The layers' norms are folded into the matrices
behind them, and the attention's 1/sqrt(head) into the queries.
"""

import mmap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

FORMAT = 1  # part of a cached folder's name: another format is another folder


class BadModel(Exception):
    """What was named is no model that the embedded engine can run."""


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A Llama-family model's shape, and its special tokens."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    context: int
    rope_base: float
    norm_eps: float
    tied: bool  # the head is the embedding
    bos_id: int | None
    eos_ids: tuple[int, ...]  # any of them ends a generation
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class ModelSource:
    """All that a prepared folder is written from; tensors come in the order of `layout`."""

    config: ModelConfig
    tokenizer: Any  # tokenizers.Tokenizer, which carries no types
    chat_template: str | None
    tensors: Iterable[tuple[str, Array]]


def layout(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name every tensor and its shape, in file order."""
    query, key = config.heads * config.head, config.kv_heads * config.head
    yield "embedding", (config.vocabulary, config.hidden)
    for layer in range(config.layers):
        yield f"{layer}.qkv", (config.hidden, query + 2 * key)
        yield f"{layer}.out", (query, config.hidden)
        yield f"{layer}.gate_up", (config.hidden, 2 * config.ffn)
        yield f"{layer}.down", (config.ffn, config.hidden)
    yield "norm", (config.hidden,)
    if not config.tied:
        yield "head", (config.vocabulary, config.hidden)


def write_folder(source: ModelSource, folder: Path) -> None:
    """Write all files of a new folder. Raises `BadModel` if a tensor is not what the layout wants."""
    folder.mkdir(parents=True)
    with (folder / "weights.f32").open("wb") as file:
        for (name, shape), (got_name, tensor) in zip(layout(source.config), source.tensors, strict=True):
            if (got_name, tensor.shape) != (name, shape):
                raise BadModel(f"tensor {name} of shape {shape} was wanted; got {got_name} of shape {tensor.shape}")
            file.write(np.ascontiguousarray(tensor, dtype="<f4").data)
    source.tokenizer.save(str(folder / "tokenizer.json"))
    if source.chat_template is not None:
        (folder / "chat_template.jinja").write_text(source.chat_template, encoding="utf-8")
    (folder / "config.json").write_bytes(msgspec.json.format(msgspec.json.encode(source.config)))


def read_config(folder: Path) -> ModelConfig:
    """Read config.json. Raises `BadModel`."""
    try:
        config = msgspec.json.decode((folder / "config.json").read_bytes(), type=ModelConfig)
    except (OSError, msgspec.MsgspecError) as exc:
        raise BadModel(f"{folder} is not a prepared model folder: {exc}") from exc
    if config.format != FORMAT:
        raise BadModel(f"{folder} has format {config.format}; this build reads {FORMAT}. Prepare the model again")
    return config


def map_weights(folder: Path, config: ModelConfig) -> Mapping[str, Array]:
    """Map weights.f32 read-only, all pages touched, so that the first request does not pay. Raises `BadModel`."""
    sizes = [(name, shape, int(np.prod(shape))) for name, shape in layout(config)]
    wanted = 4 * sum(size for _name, _shape, size in sizes)
    with (folder / "weights.f32").open("rb") as file:
        populate: int = getattr(mmap, "MAP_POPULATE", 0)  # Linux only; elsewhere the first request pays
        mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED | populate, prot=mmap.PROT_READ)
    if len(mapped) != wanted:
        raise BadModel(f"{folder}/weights.f32 has {len(mapped)} bytes; its config.json asks for {wanted}")
    flat = np.frombuffer(mapped, dtype="<f4")
    weights: dict[str, Array] = {}
    offset = 0
    for name, shape, size in sizes:
        weights[name] = flat[offset : offset + size].reshape(shape)
        offset += size
    return weights
