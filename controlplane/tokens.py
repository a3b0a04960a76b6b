"""Text to words and tokens to text: a model folder's tokenizer and chat template."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from ..workers import read_config
from .errors import BadRequest

_PLAIN_TEMPLATE = (  # for base models, which bring none
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


class _Template(Protocol):
    def render(self, **values: object) -> str: ...


class Tokens:
    """Both directions for one model."""

    def __init__(
        self, tokenizer: Tokenizer, template: _Template, specials: Mapping[str, str], eos: Sequence[int]
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._specials = specials
        self.stop_token_ids = tuple(eos)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> bytes:
        """The words of a conversation under the model's own template. Raises `BadRequest` where that refuses."""
        try:
            text = self._template.render(messages=messages, add_generation_prompt=True, **self._specials)
        except TemplateError as exc:
            raise BadRequest(f"the model's chat template refuses these messages: {exc}", param="messages") from exc
        return self._words(text)

    def text(self, prompt: str) -> bytes:
        """The words of a plain prompt."""
        return self._words(prompt)

    def ids(self, prompt: Sequence[int]) -> bytes:
        """The words of a prompt that is token ids already."""
        size = self._tokenizer.get_vocab_size()
        if any(not 0 <= token < size for token in prompt):
            raise BadRequest(f"token ids run from 0 to {size - 1} for this model", param="prompt")
        return np.asarray(prompt, dtype="<u4").tobytes()

    def detokenizer(self) -> "Detokenizer":
        """A decoder for one answer."""
        return Detokenizer(self._tokenizer)

    def _words(self, text: str) -> bytes:
        return np.asarray(self._tokenizer.encode(text, add_special_tokens=False).ids, dtype="<u4").tobytes()


class Detokenizer:
    """Text as tokens come; holds back bytes that do not yet make a character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)

    def push(self, token_ids: Iterable[int]) -> str:
        return "".join(self._stream.step(self._tokenizer, token) or "" for token in token_ids)


def load_tokens(folder: Path) -> Tokens:
    """Read a prepared model folder."""
    config = read_config(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    template = folder / "chat_template.jinja"
    text = template.read_text() if template.exists() else _PLAIN_TEMPLATE
    bos, eos = config.bos_id, config.eos_ids[0] if config.eos_ids else None
    specials = {"bos_token": _token(tokenizer, bos), "eos_token": _token(tokenizer, eos)}
    return Tokens(tokenizer, _environment().from_string(text), specials, config.eos_ids)


def _token(tokenizer: Tokenizer, id: int | None) -> str:
    return "" if id is None else tokenizer.id_to_token(id) or ""


def _environment() -> ImmutableSandboxedEnvironment:
    """Templates come with models, so they run sandboxed, with the settings Hugging Face renders them under."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals["raise_exception"] = _refuse
    return environment


def _refuse(message: str) -> None:
    raise TemplateError(message)
