from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from kvplane.workers.gguf_model import read_gguf
from kvplane.workers.model_folder import Array, BadModel, layout

HIDDEN, FFN, HEADS, KV_HEADS, HEAD = 16, 24, 4, 2, 4
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "ab", "1", "2", "12"]


def interleaved(weight: Array, heads: int) -> Array:
    """Rows as GGUF has them: a head's rotary pairs beside each other."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def tensors() -> dict[str, Array]:
    """One layer's tensors by GGUF name, [out, in], in the order of halves."""
    random = np.random.default_rng(0)
    shapes = {
        "token_embd": (len(TOKENS), HIDDEN),
        "output_norm": (HIDDEN,),
        "blk.0.attn_norm": (HIDDEN,),
        "blk.0.attn_q": (HEADS * HEAD, HIDDEN),
        "blk.0.attn_k": (KV_HEADS * HEAD, HIDDEN),
        "blk.0.attn_v": (KV_HEADS * HEAD, HIDDEN),
        "blk.0.attn_output": (HIDDEN, HEADS * HEAD),
        "blk.0.ffn_norm": (HIDDEN,),
        "blk.0.ffn_gate": (FFN, HIDDEN),
        "blk.0.ffn_up": (FFN, HIDDEN),
        "blk.0.ffn_down": (HIDDEN, FFN),
    }
    return {name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def write(path: Path, weights: dict[str, Array], architecture: str = "llama", pre: str = "smollm") -> Path:
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_context_length(64)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, 1, 1, 1, 1, 1, 1])
    writer.add_token_merges(["a b", "1 2"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, weight in weights.items():
        turned = interleaved(weight, HEADS if name.endswith("q") else KV_HEADS) if name[-2:] in ("_q", "_k") else weight
        writer.add_tensor(f"{name}.weight", np.ascontiguousarray(turned))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_tensors_come_folded_transposed_and_in_the_order_of_the_layout(tmp_path: Path) -> None:
    weights = tensors()
    source = read_gguf(write(tmp_path / "m.gguf", weights))
    read = dict(source.tensors)
    x = np.random.default_rng(1).standard_normal((3, HIDDEN), dtype=np.float32)
    normed = x * weights["blk.0.attn_norm"]
    query, key, value = np.split(x @ read["0.qkv"], [HEADS * HEAD, (HEADS + KV_HEADS) * HEAD], axis=1)

    assert [(name, tensor.shape) for name, tensor in read.items()] == list(layout(source.config))
    np.testing.assert_allclose(query, normed @ weights["blk.0.attn_q"].T / 2, atol=1e-5)
    np.testing.assert_allclose(key, normed @ weights["blk.0.attn_k"].T, atol=1e-5)
    np.testing.assert_allclose(value, normed @ weights["blk.0.attn_v"].T, atol=1e-5)
    np.testing.assert_array_equal(read["0.down"], weights["blk.0.ffn_down"].T)


def test_an_output_matrix_of_its_own_is_the_head(tmp_path: Path) -> None:
    head = np.ones((len(TOKENS), HIDDEN), np.float32)
    source = read_gguf(write(tmp_path / "m.gguf", tensors() | {"output": head}))

    assert not source.config.tied
    np.testing.assert_array_equal(dict(source.tensors)["head"], head)


def test_text_is_merged_but_digits_stay_apart_and_specials_whole(tmp_path: Path) -> None:
    source = read_gguf(write(tmp_path / "m.gguf", tensors()))

    assert source.tokenizer.encode("<|im_start|>ab12<|im_end|>").ids == [1, 5, 6, 7, 2]
    assert source.config.eos_ids == (0, 2)
    assert source.config.bos_id is None


def test_what_the_engine_cannot_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="architecture qwen2"):
        read_gguf(write(tmp_path / "a.gguf", tensors(), architecture="qwen2"))
    with pytest.raises(BadModel, match="tokenizer is gpt2/llama-bpe"):
        read_gguf(write(tmp_path / "b.gguf", tensors(), pre="llama-bpe"))
    with pytest.raises(BadModel, match=r"does not use: rope_freqs\.weight"):
        read_gguf(write(tmp_path / "c.gguf", tensors() | {"rope_freqs": np.ones(2, np.float32)}))
    cut = {name: weight for name, weight in tensors().items() if name != "blk.0.attn_q"}
    with pytest.raises(BadModel, match=r"lacks the tensor blk\.0\.attn_q\.weight"):
        list(read_gguf(write(tmp_path / "d.gguf", cut)).tensors)
    (tmp_path / "e.gguf").write_bytes(b"no model at all")
    with pytest.raises(BadModel, match=r"e\.gguf cannot be read"):
        read_gguf(tmp_path / "e.gguf")
