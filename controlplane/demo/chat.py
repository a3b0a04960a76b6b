"""One chat request over HTTP, streamed, and what a client can measure of it."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import httpx
import msgspec

from .workload import Message


class ChatFailed(Exception):
    """No answer, or one that broke off, and why."""


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer that came to its end."""

    decision: str  # the id under which the routing decision is stored
    text: str
    prompt_tokens: int
    cached_tokens: int
    ttft_ms: float  # sent to first token

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens that had to be computed."""
        return self.prompt_tokens - self.cached_tokens


class _Details(msgspec.Struct):
    cached_tokens: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int
    prompt_tokens_details: _Details | None = None


class _Delta(msgspec.Struct):
    content: str | None = None


class _Piece(msgspec.Struct):
    delta: _Delta


class _Chunk(msgspec.Struct):
    id: str = ""
    choices: tuple[_Piece, ...] = ()
    usage: _Usage | None = None
    error: dict[str, object] | None = None


_decode = msgspec.json.Decoder(_Chunk).decode


async def chat(
    client: httpx.AsyncClient,
    key: str,
    model: str,
    messages: Sequence[Message],
    max_tokens: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Completion:
    """Ask for a greedy answer and read it to its end. Raises `ChatFailed`."""
    body = {
        "model": model,
        "messages": messages,
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    headers = {"authorization": f"Bearer {key}"}
    began = clock()
    try:
        async with client.stream("POST", "/chat/completions", json=body, headers=headers) as response:
            return await _read(response, began, clock)
    except (httpx.HTTPError, msgspec.MsgspecError) as exc:
        raise ChatFailed(f"{type(exc).__name__}: {exc}") from exc


async def _read(response: httpx.Response, began: float, clock: Callable[[], float]) -> Completion:
    if response.status_code != 200:
        raise ChatFailed(f"HTTP {response.status_code}: {(await response.aread()).decode(errors='replace')[:300]}")
    ttft_s, text, id, usage = None, "", "", None
    async for chunk in _chunks(response):
        id, usage = chunk.id or id, chunk.usage or usage
        if chunk.choices and ttft_s is None:
            ttft_s = clock() - began
        text += "".join(piece.delta.content or "" for piece in chunk.choices)
    if ttft_s is None or usage is None:
        raise ChatFailed("the stream ended before the answer did")
    details = usage.prompt_tokens_details or _Details()
    return Completion(id.removeprefix("chatcmpl-"), text, usage.prompt_tokens, details.cached_tokens, ttft_s * 1e3)


async def _chunks(response: httpx.Response) -> AsyncIterator[_Chunk]:
    """A stream's events; an error can still come among them."""
    async for line in response.aiter_lines():
        data = line.removeprefix("data: ")
        if data in (line, "[DONE]"):
            continue
        chunk = _decode(data)
        if chunk.error:
            raise ChatFailed(str(chunk.error.get("message", chunk.error)))
        yield chunk
