"""The HTTP surface: OpenAI's endpoints, health and metrics, as an ASGI application over one front."""

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Protocol

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from .accounts import Caller
from .answer import Answer
from .errors import ApiError, BadRequest, Forbidden, NotFound, Unauthenticated
from .metrics import CONTENT_TYPE
from .openai import Asking, Chat, Completion, Shape, error_shape, parse_chat, parse_completion

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 8 << 20  # a million tokens and more
_DONE = b"data: [DONE]\n\n"


class Inspector(Protocol):
    """What an operator may ask of the directory; answers are plain values."""

    async def stats(self) -> object: ...

    async def find(self, body: bytes) -> object:
        """Raises `ApiError`."""
        ...

    async def verify(self) -> object: ...


class Front(Protocol):
    """What the endpoints need of a router."""

    @property
    def model(self) -> str: ...

    @property
    def needs_key(self) -> bool: ...

    def caller(self, key: str) -> Caller | None:
        """Raises `ApiError` while it is not known who may ask."""
        ...

    async def answer(self, caller: Caller, asking: Chat | Completion, traceparent: str | None) -> Answer:
        """The answer, its first piece ready to be read; to be closed. Raises `ApiError`."""
        ...

    def ready(self) -> str | None:
        """None, or what is missing before requests can be served."""
        ...

    @property
    def metrics_need_key(self) -> bool: ...

    def metrics(self) -> bytes: ...

    def is_operator(self, key: str) -> bool: ...

    async def report(self) -> object:
        """What every process of the application says of itself."""
        ...

    @property
    def inspector(self) -> Inspector: ...

    def count(self, endpoint: str, status: int) -> None: ...


def build_http(front: Front) -> Starlette:
    """The application; its state is the front."""
    surface = _Surface(front)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", surface.counted("chat", surface.chat), methods=["POST"]),
            Route("/v1/completions", surface.counted("completions", surface.completions), methods=["POST"]),
            Route("/v1/models", surface.counted("models", surface.models)),
            Route("/health", surface.health),
            Route("/ready", surface.is_ready),
            Route("/metrics", surface.counted("metrics", surface.metrics)),
            Route("/status", surface.counted("status", surface.status)),
            Route("/directory/stats", surface.counted("directory", surface.directory_stats)),
            Route("/directory/find", surface.counted("directory", surface.directory_find), methods=["POST"]),
            Route("/directory/verify", surface.counted("directory", surface.directory_verify), methods=["POST"]),
        ],
        exception_handlers={HTTPException: _http_error},
    )


class _Surface:
    """One method per endpoint."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._started = int(time.time())

    def counted(
        self, endpoint: str, serve: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Answer errors in OpenAI's shape, and count every answer by its status."""

        async def endpoint_of(request: Request) -> Response:
            try:
                response = await serve(request)
            except ApiError as error:
                response = _error(error)
            except Exception:
                log.exception("%s: an answer failed", endpoint)
                response = _error(ApiError("the server failed to answer; its log says why"))
            self._front.count(endpoint, response.status_code)
            return response

        return endpoint_of

    async def chat(self, request: Request) -> Response:
        caller = self._caller(request)
        return await self._answer(request, caller, parse_chat(await _body(request)), chat=True)

    async def completions(self, request: Request) -> Response:
        caller = self._caller(request)
        return await self._answer(request, caller, parse_completion(await _body(request)), chat=False)

    async def models(self, request: Request) -> Response:
        self._caller(request)
        model = {"id": self._front.model, "object": "model", "created": self._started, "owned_by": "kvplane"}
        return _json({"object": "list", "data": [model]})

    async def health(self, _: Request) -> Response:
        return _json({"status": "ok"})

    async def is_ready(self, _: Request) -> Response:
        missing = self._front.ready()
        return _json({"status": "ready"}) if missing is None else _json({"status": "waiting", "for": missing}, 503)

    async def metrics(self, request: Request) -> Response:
        if self._front.metrics_need_key:
            self._check_operator(request)
        return Response(self._front.metrics(), media_type=CONTENT_TYPE)

    async def status(self, request: Request) -> Response:
        self._check_operator(request)
        return _json(await self._front.report())

    async def directory_stats(self, request: Request) -> Response:
        self._check_operator(request)
        return _json(await self._front.inspector.stats())

    async def directory_find(self, request: Request) -> Response:
        self._check_operator(request)
        return _json(await self._front.inspector.find(await _body(request)))

    async def directory_verify(self, request: Request) -> Response:
        self._check_operator(request)
        return _json(await self._front.inspector.verify())

    def _check_operator(self, request: Request) -> None:
        if not self._front.is_operator(_key(request)):
            raise Unauthenticated("this key is not the operator's", code="invalid_api_key")

    def _caller(self, request: Request) -> Caller:
        caller = self._front.caller(_key(request) if self._front.needs_key else "")
        if caller is None:
            raise Unauthenticated("this API key is not known here", code="invalid_api_key")
        if caller.tenant.disabled:
            raise Forbidden(f"{caller.tenant.name} is disabled; ask whoever gave you the key", code="tenant_disabled")
        return caller

    async def _answer(self, request: Request, caller: Caller, asking: Chat | Completion, chat: bool) -> Response:
        if asking.model != self._front.model:
            raise NotFound(f"model {asking.model!r} is not served; {self._front.model!r} is", code="model_not_found")
        answer = await self._front.answer(caller, asking, request.headers.get("traceparent"))
        shape = Shape(answer.id, asking.model, chat)
        if asking.stream:
            return _Streamed(answer, _stream(shape, asking, answer))
        text, last = [], None
        async with aclosing(answer):
            async for piece in answer:
                text.append(piece.text)
                last = piece
        assert last is not None, "an answer has at least its last piece"
        return _json(shape.whole("".join(text), last.finish or "stop", last.usage), headers=answer.headers)


class _Streamed(StreamingResponse):
    """Closes its answer even if the client left before the first byte."""

    def __init__(self, answer: Answer, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(events, headers=answer.headers, media_type="text/event-stream")
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._answer):
            await super().__call__(scope, receive, send)


async def _stream(shape: Shape, asking: Asking, answer: Answer) -> AsyncGenerator[bytes, None]:
    first, last = True, None
    try:
        async for piece in answer:
            if piece.text or piece.finish or first:
                yield _event(shape.chunk(piece.text, piece.finish, first))
            first, last = False, piece
        if asking.include_usage and last is not None:
            yield _event(shape.usage(last.usage))
        yield _DONE
    except Exception as exc:
        yield _event(error_shape(ApiError(f"the answer broke off: {type(exc).__name__}; send the request again")))
        raise
    finally:
        await answer.aclose()


def _key(request: Request) -> str:
    """The one key that came, in OpenAI's header or in Anthropic's, however often."""
    bearers = (each.partition(" ") for each in request.headers.getlist("authorization"))
    keys = [key for scheme, _, key in bearers if scheme.lower() == "bearer"]
    came = {key.strip() for key in (*keys, *request.headers.getlist("x-api-key"))} - {""}
    if not came:
        wanted = "send 'Authorization: Bearer <key>' or 'x-api-key: <key>'"
        raise Unauthenticated(f"no API key came; {wanted}", code="missing_api_key")
    if len(came) > 1:
        raise Unauthenticated("two API keys came, and they differ; send one", code="invalid_api_key")
    return came.pop()


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise BadRequest(f"the body is larger than {MAX_BODY_BYTES >> 20} MiB")
    return bytes(body)


def _event(value: object) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")


def _error(error: ApiError) -> Response:
    response = _json(error_shape(error), error.status, error.headers)
    if error.retry_after_s is not None:
        response.headers["retry-after"] = str(error.retry_after_s)
    return response


async def _http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    message = (
        f"{request.method} {request.url.path}: {exc.detail}; see /v1/models, /v1/chat/completions, /v1/completions"
    )
    error = NotFound(message) if exc.status_code == 404 else BadRequest(message)
    return _json(error_shape(error), exc.status_code)
