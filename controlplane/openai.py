"""OpenAI's request and answer shapes, as far as they are served; what would change the meaning is refused."""

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, cast

import msgspec

from ..workers import Sampling
from .errors import ApiError, BadRequest

T = TypeVar("T")
_Temperature = Annotated[float, msgspec.Meta(ge=0, le=2)]
_TopP = Annotated[float, msgspec.Meta(gt=0, le=1)]
_Count = Annotated[int, msgspec.Meta(ge=1)]
_Id = Annotated[str, msgspec.Meta(max_length=512)]
_MAX_STOPS = 4
_AROUND = 32  # characters that a chat template adds to a message, about


# What changes an answer and is not served, with the value that changes nothing beside null and zero.
_NOT_SERVED: Mapping[str, object] = {
    "logprobs": False,
    "logit_bias": None,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "min_p": 0,
    "top_k": -1,
    "repetition_penalty": 1,
}


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool = False


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """What chat and plain completions have in common. Fields that change nothing (metadata) are ignored."""

    model: str
    max_tokens: _Count | None = None
    temperature: _Temperature | None = None
    top_p: _TopP | None = None
    seed: int | None = None
    stop: str | tuple[str, ...] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = None
    logprobs: bool | int | None = None
    logit_bias: dict[str, float] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    min_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    user: _Id | None = None
    safety_identifier: _Id | None = None
    prompt_cache_key: _Id | None = None  # what should stay together; it never widens whose cache is shared

    @property
    def wanted_tokens(self) -> int | None:
        """How much may be generated, where the client says."""
        return self.max_tokens

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def stops(self) -> tuple[str, ...]:
        """Strings that end the answer, themselves left out."""
        stops = (self.stop,) if isinstance(self.stop, str) else self.stop or ()
        return tuple(stop for stop in stops if stop)


class Part(msgspec.Struct, frozen=True):
    """One piece of a message."""

    type: str
    text: str = ""


class Message(msgspec.Struct, frozen=True):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | tuple[Part, ...] | None = None
    tool_calls: Sequence[Any] | None = None  # Any: refused whatever it holds

    def plain(self) -> Mapping[str, str]:
        """The message as a chat template takes it."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self._text()}

    def _text(self) -> str:
        if self.tool_calls:
            raise BadRequest("tools are not served", param="messages")
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        for part in self.content:
            if part.type != "text":
                raise BadRequest(f"message parts of type {part.type!r} are not served; only text", param="messages")
        return "".join(part.text for part in self.content)


class Chat(Asking, frozen=True, kw_only=True):
    """POST /v1/chat/completions."""

    messages: Annotated[tuple[Message, ...], msgspec.Meta(min_length=1)]
    max_completion_tokens: _Count | None = None
    tools: Sequence[Any] | None = None  # Any: refused whatever it holds
    functions: Sequence[Any] | None = None  # Any: refused whatever it holds
    response_format: dict[str, Any] | None = None  # Any: only its type is read

    @property
    def wanted_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def characters(self) -> int:
        """How much there is to tokenise, what a template writes around a message included."""
        return sum(len(message.plain()["content"]) + _AROUND for message in self.messages)


class Completion(Asking, frozen=True, kw_only=True):
    """POST /v1/completions: one prompt, as text or as token ids."""

    prompt: str | tuple[int | str | tuple[int, ...], ...]
    echo: bool = False
    best_of: int | None = None
    suffix: str | None = None

    @property
    def single_prompt(self) -> str | Sequence[int]:
        """The one prompt, text or token ids. Raises `BadRequest` for a list of several."""
        prompt = self.prompt
        if isinstance(prompt, str) or all(isinstance(token, int) for token in prompt):
            return cast("str | Sequence[int]", prompt)
        if len(prompt) != 1:
            raise BadRequest(f"{len(prompt)} prompts; one a request is served", param="prompt")
        return cast("str | Sequence[int]", prompt[0])

    @property
    def characters(self) -> int:
        """How much there is to tokenise."""
        return len(self.single_prompt)


class Usage(msgspec.Struct, frozen=True):
    """What a request cost, in tokens; `cached` are prompt tokens whose prefill was skipped."""

    prompt: int
    completion: int
    cached: int

    def shape(self) -> Mapping[str, object]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


_chat = msgspec.json.Decoder(Chat)
_completion = msgspec.json.Decoder(Completion)


def parse_chat(body: bytes) -> Chat:
    """Read a chat request. Raises `BadRequest` with the path of what is wrong."""
    chat = _decode(_chat, body)
    _refuse(chat)
    if chat.tools or chat.functions:
        raise BadRequest("tools are not served", param="tools")
    if chat.response_format and chat.response_format.get("type") != "text":
        raise BadRequest("response_format other than text is not served", param="response_format")
    return chat


def parse_completion(body: bytes) -> Completion:
    """Read a completion request. Raises `BadRequest` with the path of what is wrong."""
    completion = _decode(_completion, body)
    _refuse(completion)
    if completion.echo or completion.suffix or completion.best_of not in (None, 1):
        raise BadRequest("echo, suffix and best_of are not served")
    return completion


def sampling(asking: Asking, stop_token_ids: Sequence[int], room: int, default: Sampling) -> Sampling:
    """How to draw, within the `room` tokens that the context leaves; `default` where the client says nothing."""
    return Sampling(
        max_tokens=min(asking.wanted_tokens or default.max_tokens, room),
        temperature=default.temperature if asking.temperature is None else asking.temperature,
        top_p=default.top_p if asking.top_p is None else asking.top_p,
        seed=asking.seed,
        stop_token_ids=tuple(stop_token_ids),
    )


def error_shape(error: ApiError) -> Mapping[str, object]:
    """OpenAI's error object."""
    return {"error": {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}}


class Shape:
    """The objects of one answer: whole, or as chunks of a stream."""

    def __init__(self, id: str, model: str, chat: bool) -> None:
        self._head = {"id": f"{'chatcmpl' if chat else 'cmpl'}-{id}", "created": int(time.time()), "model": model}
        self._chat = chat

    def whole(self, text: str, finish: str, usage: Usage) -> Mapping[str, object]:
        """A response that is not streamed."""
        content: Mapping[str, object] = (
            {"message": {"role": "assistant", "content": text, "refusal": None}} if self._chat else {"text": text}
        )
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish}
        kind = "chat.completion" if self._chat else "text_completion"
        return {**self._head, "object": kind, "choices": [choice], "usage": usage.shape()}

    def chunk(self, text: str, finish: str | None, first: bool) -> Mapping[str, object]:
        """One piece of a stream."""
        if self._chat:
            role = {"role": "assistant"} if first else {}
            content: Mapping[str, object] = {"delta": {**role, **({"content": text} if text or first else {})}}
        else:
            content = {"text": text}
        return self._stream([{"index": 0, **content, "logprobs": None, "finish_reason": finish}])

    def usage(self, usage: Usage) -> Mapping[str, object]:
        """The last piece of a stream that asked for its usage."""
        return {**self._stream([]), "usage": usage.shape()}

    def _stream(self, choices: Sequence[object]) -> Mapping[str, object]:
        return {
            **self._head,
            "object": "chat.completion.chunk" if self._chat else "text_completion",
            "choices": choices,
        }


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise BadRequest(str(exc)) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadRequest(f"the body is not JSON that can be read: {exc}") from exc


def _refuse(asking: Asking) -> None:
    if asking.n not in (None, 1):
        raise BadRequest(f"n={asking.n}: one choice a request is served; send {asking.n} requests", param="n")
    for name, harmless in _NOT_SERVED.items():
        if (value := getattr(asking, name)) and value != harmless:
            raise BadRequest(f"{name} is not served", param=name)
    if len(asking.stops) > _MAX_STOPS:
        raise BadRequest(f"{len(asking.stops)} stop strings; at most {_MAX_STOPS}", param="stop")
