"""A prepared model written as a Hugging Face checkpoint: the folder that vLLM and others load.

config.json   model.safetensors   tokenizer.json   tokenizer_config.json   chat_template.jinja (where it has one)
"""

import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from .chat_format import is_checkpoint
from .model_folder import Array, ModelConfig, map_weights, read_config
from .once import made_once
from .weights import prepare

_ALIGNED = 8  # safetensors wants its header so


def prepare_checkpoint(source: str, cache: Path) -> Path:
    """Return a folder that vLLM loads: a Hugging Face model's own, or one made from what `prepare` takes, once.

    Raises `BadModel`.
    """
    given = Path(source).expanduser()
    if is_checkpoint(given):
        return given
    prepared = prepare(source, cache)
    return made_once(cache.expanduser() / f"{prepared.name}-checkpoint", partial(write_checkpoint, prepared))


def write_checkpoint(prepared: Path, folder: Path) -> None:
    """Write all files of a new folder. Norms are ones: those of a prepared model are folded into its matrices."""
    config = read_config(prepared)
    folder.mkdir(parents=True)
    _write_tensors(folder / "model.safetensors", dict(_tensors(config, map_weights(prepared, config))))
    _write_json(folder / "config.json", _llama(config))
    _write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    for name in ("tokenizer.json", "chat_template.jinja"):
        if (prepared / name).exists():
            shutil.copyfile(prepared / name, folder / name)


def _llama(config: ModelConfig) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float32",
        "hidden_act": "silu",
        "hidden_size": config.hidden,
        "intermediate_size": config.ffn,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head,
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.context,
        "rope_theta": config.rope_base,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tied,
        "bos_token_id": config.bos_id,
        "eos_token_id": list(config.eos_ids),
    }


def _tensors(config: ModelConfig, weights: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """Matrices as [out, in], and the queries without the attention's scale, which is in a prepared model's."""
    query, key, ones = config.heads * config.head, config.kv_heads * config.head, np.ones(config.hidden, np.float32)
    yield "model.embed_tokens.weight", weights["embedding"]
    for layer in range(config.layers):
        name = f"model.layers.{layer}."
        q, k, v = np.split(weights[f"{layer}.qkv"].T, [query, query + key])
        gate, up = np.split(weights[f"{layer}.gate_up"].T, 2)
        yield name + "self_attn.q_proj.weight", q * np.sqrt(np.float32(config.head))
        yield name + "self_attn.k_proj.weight", k
        yield name + "self_attn.v_proj.weight", v
        yield name + "self_attn.o_proj.weight", weights[f"{layer}.out"].T
        yield name + "mlp.gate_proj.weight", gate
        yield name + "mlp.up_proj.weight", up
        yield name + "mlp.down_proj.weight", weights[f"{layer}.down"].T
        yield name + "input_layernorm.weight", ones
        yield name + "post_attention_layernorm.weight", ones
    yield "model.norm.weight", weights["norm"]
    if not config.tied:
        yield "lm_head.weight", weights["head"]


def _write_tensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """In the safetensors format: the header's length, the header as JSON, then every tensor with nothing between."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": (end, end + tensor.nbytes)}
        end += tensor.nbytes
    text = msgspec.json.encode(header)
    text = text.ljust(-(-len(text) // _ALIGNED) * _ALIGNED)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor, "<f4").data)


def _write_json(path: Path, value: object) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value)))
