"""A small Llama of random weights, one token a byte, made in a moment: where text does not matter."""

import string
from collections.abc import Iterator
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from .model_folder import Array, ModelConfig, ModelSource, layout

_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_PLAIN = string.ascii_lowercase + "Ġ"  # Ġ: the space, as byte-level tokenizers write it
PLAIN_IDS = range(len(_SPECIAL), len(_SPECIAL) + len(_PLAIN))  # tokens that read as lower-case text

_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_model() -> ModelSource:
    """Make the model: 3M parameters, 4 layers, the same at every call."""
    tokenizer = _tokenizer()
    config = ModelConfig(
        layers=4,
        hidden=256,
        ffn=704,
        heads=4,
        kv_heads=2,
        head=64,
        vocabulary=tokenizer.get_vocab_size(),
        context=8192,
        rope_base=10000.0,
        norm_eps=1e-5,
        tied=True,
        bos_id=None,
        eos_ids=(0, 2),
    )
    return ModelSource(config, tokenizer, _CHAT_TEMPLATE, _tensors(config))


def _tensors(config: ModelConfig) -> Iterator[tuple[str, Array]]:
    random = np.random.default_rng(0)
    for name, shape in layout(config):
        # A faint embedding keeps the tied head from echoing the last token.
        deviation = 0.1 if name == "embedding" else shape[0] ** -0.5
        tensor = random.standard_normal(shape, dtype=np.float32) * np.float32(deviation)
        if name.endswith(".qkv"):
            tensor[:, : config.heads * config.head] *= config.head**-0.5
        yield name, np.ones(shape, np.float32) if name == "norm" else tensor


def _tokenizer() -> Any:  # Any: tokenizers carries no types
    others = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(_PLAIN))
    vocabulary = {token: index for index, token in enumerate([*_SPECIAL, *_PLAIN, *others])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in _SPECIAL])
    return tokenizer
