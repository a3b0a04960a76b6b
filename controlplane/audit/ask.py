"""One completion over HTTP, streamed, and what the one who asks can see of it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import msgspec

from .errors import AuditFailed, NoAnswer
from .reply import Ask, Reply

_TIMEOUT_S = 120.0


class _Details(msgspec.Struct):
    cached_tokens: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int
    prompt_tokens_details: _Details | None = None


class _Chunk(msgspec.Struct):
    id: str = ""
    choices: tuple[msgspec.Raw, ...] = ()
    usage: _Usage | None = None
    error: dict[str, object] | None = None


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: tuple[_Model, ...]


_decode = msgspec.json.Decoder(_Chunk).decode


@contextmanager
def asking(url: str, key: str) -> Iterator[Ask]:
    """Ask for one token of the first model served at a URL that ends in /v1. Raises `AuditFailed`."""
    try:
        with httpx.Client(base_url=url, timeout=_TIMEOUT_S) as client:
            model = _model(client, key)
            yield lambda key, prompt: ask(client, model, key, prompt)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise AuditFailed(f"{url} does not answer ({exc}); start it with `kvplane up`, or name it by --url") from exc


def ask(
    client: httpx.Client, model: str, key: str, prompt: str, clock: Callable[[], float] = time.perf_counter
) -> Reply:
    """Read an answer of one token to its end. Raises `NoAnswer`."""
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": 1,
        "temperature": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began = clock()
    try:
        with client.stream("POST", "/completions", json=body, headers=_bearer(key)) as response:
            if response.status_code != 200:
                response.read()
                raise NoAnswer(_said(response, key))
            return _read(response, began, clock)
    except (httpx.HTTPError, msgspec.MsgspecError) as exc:
        raise NoAnswer(f"{type(exc).__name__}: {exc}") from exc


def _read(response: httpx.Response, began: float, clock: Callable[[], float]) -> Reply:
    ttft_s, id, usage = None, "", None
    for line in response.iter_lines():
        data = line.removeprefix("data: ")
        if data in (line, "[DONE]"):
            continue
        if ttft_s is None:
            ttft_s = clock() - began  # before it is parsed: chunks of a hit and of a miss cost alike
        chunk = _decode(data)
        if chunk.error:
            raise NoAnswer(str(chunk.error.get("message", chunk.error)))
        id, usage = chunk.id or id, chunk.usage or usage
    if ttft_s is None or usage is None:
        raise NoAnswer("the stream ended before its usage came")
    details = usage.prompt_tokens_details or _Details()
    return Reply(id.removeprefix("cmpl-"), ttft_s * 1e3, usage.prompt_tokens, details.cached_tokens)


def _model(client: httpx.Client, key: str) -> str:
    response = client.get("/models", headers=_bearer(key))
    if response.status_code != 200:
        raise AuditFailed(_said(response, key))
    try:
        return msgspec.json.decode(response.content, type=_Models).data[0].id
    except (msgspec.MsgspecError, IndexError) as exc:
        raise AuditFailed(f"{client.base_url}models lists no model; is it an OpenAI-compatible API?") from exc


def _said(response: httpx.Response, key: str) -> str:
    return f"HTTP {response.status_code}: {response.text.replace(key, '***')[:300]}"


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}
