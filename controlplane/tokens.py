"""Text to words and tokens to text: a model folder's tokenizer and chat template."""

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from ..workers.chat_format import read_chat_format
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
        self._plain = Tokenizer.from_str(tokenizer.to_str())
        self._plain.encode_special_tokens = True  # as any other text
        self._template = template
        self._specials = specials
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
        self._controls = re.compile("|".join(map(re.escape, sorted(added, key=len, reverse=True))) or "(?!)")
        self.stop_token_ids = tuple(eos)
        self.longest_token = max(map(len, tokenizer.get_vocab()), default=1)  # characters; no prompt has more a token

    def chat(self, messages: Sequence[Mapping[str, str]]) -> bytes:
        """The words of a conversation under the model's own template. Raises `BadRequest` where that refuses.

        What a message quotes of the model's control tokens is text: only the template may open or close a turn.
        """
        mark = f"\ue000{secrets.token_hex(8)}\ue001"
        quoted: list[str] = []
        safe = [{**message, "content": self._set_aside(message["content"], mark, quoted)} for message in messages]
        try:
            text = self._template.render(messages=safe, add_generation_prompt=True, **self._specials)
        except TemplateError as exc:
            raise BadRequest(f"the model's chat template refuses these messages: {exc}", param="messages") from exc
        if not quoted:
            return self._words(text)
        pieces = [self._words(piece) for piece in text.split(mark)]
        literal = [_packed(self._plain.encode(control, add_special_tokens=False).ids) for control in quoted]
        return b"".join(part for pair in zip(pieces, [*literal, b""], strict=True) for part in pair)

    def text(self, prompt: str) -> bytes:
        """The words of a plain prompt; control tokens in it are the client's own and count as such."""
        return self._words(prompt)

    def ids(self, prompt: Sequence[int]) -> bytes:
        """The words of a prompt that is token ids already."""
        size = self._tokenizer.get_vocab_size()
        if any(not 0 <= token < size for token in prompt):
            raise BadRequest(f"token ids run from 0 to {size - 1} for this model", param="prompt")
        return _packed(prompt)

    def detokenizer(self) -> "Detokenizer":
        """A decoder for one answer."""
        return Detokenizer(self._tokenizer)

    def _set_aside(self, content: str, mark: str, quoted: list[str]) -> str:
        quoted += self._controls.findall(content)
        return self._controls.sub(mark, content)

    def _words(self, text: str) -> bytes:
        # A batch of one, since only a batch lets go of the interpreter while it encodes.
        return _packed(self._tokenizer.encode_batch([text], add_special_tokens=False)[0].ids)


class Detokenizer:
    """Text as tokens come; holds back bytes that do not yet make a character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)

    def push(self, token_ids: Iterable[int]) -> str:
        return "".join(self._stream.step(self._tokenizer, token) or "" for token in token_ids)


def load_tokens(folder: Path) -> Tokens:
    """Read an engine's model folder. Raises `BadModel`, also for a tokenizer that is not the model's."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    chat = read_chat_format(folder, {id: token for token, id in tokenizer.get_vocab().items()})
    specials = {"bos_token": chat.bos_token, "eos_token": chat.eos_token}
    return Tokens(tokenizer, _environment().from_string(chat.template or _PLAIN_TEMPLATE), specials, chat.eos_ids)


def _packed(ids: Sequence[int]) -> bytes:
    return np.asarray(ids, dtype="<u4").tobytes()


def _environment() -> ImmutableSandboxedEnvironment:
    """Templates come with models, so they run sandboxed, with the settings Hugging Face renders them under."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals["raise_exception"] = _refuse
    return environment


def _refuse(message: str) -> None:
    raise TemplateError(message)
