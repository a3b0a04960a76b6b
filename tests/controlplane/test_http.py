"""The HTTP surface over a front that a test controls: statuses, shapes, streams, errors."""

import json
from collections.abc import AsyncGenerator, AsyncIterator

import httpx
import pytest
from starlette.requests import ClientDisconnect

from kvplane.controlplane.accounts import Caller, Tenant
from kvplane.controlplane.answer import Answer, Piece
from kvplane.controlplane.errors import ApiError, BadRequest, LimitReached, Overloaded
from kvplane.controlplane.http import Inspector, build_http
from kvplane.controlplane.openai import Chat, Completion, Usage
from kvplane.directory import Domain

KEY = "sk-acme-0123456789"
DISABLED = "sk-globex-0123456789"
ACME = Caller(Tenant(organisation="acme"), Domain("acme", "default"))
GLOBEX = Caller(Tenant(organisation="globex", disabled=True), Domain("globex", "default"))
OPERATOR = "0123456789abcdef"
HEADERS = {"authorization": f"Bearer {KEY}", "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


class FakeInspector:
    """Says which verb was asked."""

    async def stats(self) -> object:
        return {"verb": "stats"}

    async def find(self, body: bytes) -> object:
        if body == b"{}":
            raise BadRequest("give a prompt")
        return {"verb": "find", "body": body.decode()}

    async def verify(self) -> object:
        return {"verb": "verify"}


class FakeFront:
    """Answers two pieces, or raises what it is told to."""

    model = "m"
    metrics_need_key = False
    needs_key = True

    def __init__(self) -> None:
        self.asked: list[tuple[Caller, str | None]] = []
        self.counted: list[tuple[str, int]] = []
        self.closed = self.ended = 0
        self.refusal: ApiError | None = None
        self.breaks = False
        self.missing: str | None = None

    def caller(self, key: str) -> Caller | None:
        return {KEY: ACME, DISABLED: GLOBEX, "": ACME}.get(key)

    async def answer(self, caller: Caller, asking: Chat | Completion, traceparent: str | None) -> Answer:
        self.asked.append((caller, traceparent))
        if self.refusal:
            raise self.refusal
        return Answer("d1", self._pieces(), self._closed, {"x-ratelimit-limit-requests": "60"})

    async def _closed(self, last: Piece | None) -> None:
        self.closed += 1

    async def _pieces(self) -> AsyncGenerator[Piece, None]:
        try:
            yield Piece("Par", None, Usage(9, 1, 4))
            if self.breaks:
                raise RuntimeError("replica killed")
            yield Piece("is.", "stop", Usage(9, 2, 4))
        finally:
            self.ended += 1

    def ready(self) -> str | None:
        return self.missing

    def metrics(self) -> bytes:
        return b"kvplane_replicas 3\n"

    def is_operator(self, key: str) -> bool:
        return key == OPERATOR

    async def report(self) -> object:
        return {"replicas": []}

    @property
    def inspector(self) -> Inspector:
        return FakeInspector()

    def count(self, endpoint: str, status: int) -> None:
        self.counted.append((endpoint, status))


@pytest.fixture
def front() -> FakeFront:
    return FakeFront()


@pytest.fixture
async def client(front: FakeFront) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(build_http(front), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=HEADERS) as client:
        yield client


def events(text: str) -> list[dict[str, object]]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def test_a_chat_answer_is_whole_and_its_cached_tokens_are_told(
    client: httpx.AsyncClient, front: FakeFront
) -> None:
    response = await client.post("/v1/chat/completions", json=CHAT)

    body = response.json()
    assert body["choices"][0]["message"]["content"] == "Paris."
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}
    assert front.asked == [(ACME, HEADERS["traceparent"])]
    assert front.counted == [("chat", 200)]
    assert front.closed == 1


async def test_a_stream_ends_with_usage_only_where_it_was_asked_for(client: httpx.AsyncClient) -> None:
    plain = await client.post("/v1/chat/completions", json={**CHAT, "stream": True})
    asked = await client.post(
        "/v1/chat/completions", json={**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    )

    assert plain.headers["content-type"].startswith("text/event-stream")
    assert all("usage" not in event for event in events(plain.text))
    assert events(asked.text)[-1]["choices"] == []
    assert events(asked.text)[-1]["usage"]["total_tokens"] == 11  # type: ignore[index]


async def test_a_completion_streams_text(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/completions", json={"model": "m", "prompt": "hi", "stream": True})

    assert "".join(event["choices"][0]["text"] for event in events(response.text)) == "Paris."  # type: ignore[index]


@pytest.mark.parametrize("header, code", [({}, "missing_api_key"), ({"authorization": "Bearer no"}, "invalid_api_key")])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/models"])
async def test_without_a_known_key_nothing_is_answered(
    client: httpx.AsyncClient, front: FakeFront, header: dict[str, str], code: str, path: str
) -> None:
    del client.headers["authorization"]
    method = "GET" if path.endswith("models") else "POST"
    response = await client.request(method, path, json=CHAT, headers=header)

    assert response.status_code == 401
    assert response.json()["error"]["code"] == code
    assert front.asked == []


@pytest.mark.parametrize(
    "headers, status, code",
    [
        ({"x-api-key": KEY}, 200, None),
        ({"x-api-key": KEY, "authorization": f"Bearer {KEY}"}, 200, None),
        ({"x-api-key": KEY, "authorization": f"Bearer {DISABLED}"}, 401, "invalid_api_key"),
        ({"x-api-key": KEY, "authorization": "Basic xyz"}, 200, None),
        ({"x-api-key": DISABLED}, 403, "tenant_disabled"),
    ],
)
async def test_a_key_may_come_in_either_header_but_only_one(
    client: httpx.AsyncClient, headers: dict[str, str], status: int, code: str | None
) -> None:
    del client.headers["authorization"]
    response = await client.post("/v1/chat/completions", json=CHAT, headers=headers)

    assert response.status_code == status
    assert response.json().get("error", {}).get("code") == code


async def test_one_header_that_comes_twice_with_two_keys_is_refused(client: httpx.AsyncClient) -> None:
    del client.headers["authorization"]
    twice = [("x-api-key", KEY), ("x-api-key", DISABLED)]
    differ = await client.post("/v1/chat/completions", json=CHAT, headers=twice)
    same = await client.post("/v1/chat/completions", json=CHAT, headers=[("x-api-key", KEY)] * 2)

    assert (differ.status_code, same.status_code) == (401, 200)


async def test_where_no_key_is_needed_none_is_read(client: httpx.AsyncClient, front: FakeFront) -> None:
    front.needs_key = False
    del client.headers["authorization"]
    without = await client.post("/v1/chat/completions", json=CHAT)
    other = await client.post("/v1/chat/completions", json=CHAT, headers={"authorization": "Bearer other"})

    assert (without.status_code, other.status_code) == (200, 200)
    assert [caller for caller, _ in front.asked] == [ACME, ACME]


@pytest.mark.parametrize("method, verb", [("GET", "stats"), ("POST", "find"), ("POST", "verify")])
async def test_the_directory_is_shown_to_the_operator_alone(client: httpx.AsyncClient, method: str, verb: str) -> None:
    refused = await client.request(method, f"/directory/{verb}", content=b"[]")
    operator = {"authorization": f"Bearer {OPERATOR}"}
    told = await client.request(method, f"/directory/{verb}", headers=operator, content=b"[]")

    assert refused.status_code == 401
    assert told.json()["verb"] == verb


async def test_a_wrong_question_about_the_directory_is_a_bad_request(client: httpx.AsyncClient) -> None:
    told = await client.post("/directory/find", headers={"authorization": f"Bearer {OPERATOR}"}, content=b"{}")

    assert told.status_code == 400
    assert told.json()["error"]["message"] == "give a prompt"


async def test_the_status_is_the_operators_alone(client: httpx.AsyncClient) -> None:
    refused = await client.get("/status")
    told = await client.get("/status", headers={"authorization": f"Bearer {OPERATOR}"})

    assert refused.status_code == 401
    assert told.json() == {"replicas": []}


async def test_metrics_are_open_unless_the_operator_wants_them_closed(
    client: httpx.AsyncClient, front: FakeFront
) -> None:
    assert (await client.get("/metrics")).status_code == 200
    front.metrics_need_key = True
    assert (await client.get("/metrics")).status_code == 401
    assert (await client.get("/metrics", headers={"authorization": f"Bearer {OPERATOR}"})).status_code == 200


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"model": "\xff"}'])
async def test_bodies_that_break_a_parser_are_bad_requests(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post("/v1/chat/completions", content=body)

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_what_nobody_foresaw_is_a_500_in_openais_shape_and_counted(
    client: httpx.AsyncClient, front: FakeFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(front, "answer", broken)
    response = await client.post("/v1/chat/completions", json=CHAT)

    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    assert front.counted == [("chat", 500)]


async def test_an_unknown_model_is_404_and_names_the_one_that_is_served(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/chat/completions", json={**CHAT, "model": "x"})

    assert response.status_code == 404
    assert "'m' is" in response.json()["error"]["message"]


async def test_refusals_keep_openais_shape_and_say_when_to_come_back(
    client: httpx.AsyncClient, front: FakeFront
) -> None:
    front.refusal = Overloaded("full")
    full = await client.post("/v1/chat/completions", json=CHAT)
    front.refusal = BadRequest("37 too many", code="context_length_exceeded", param="messages")
    long = await client.post("/v1/chat/completions", json=CHAT)

    assert (full.status_code, full.headers["retry-after"]) == (503, "1")
    assert long.status_code == 400
    assert long.json()["error"] == {
        "message": "37 too many",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }


async def test_an_answer_that_breaks_off_ends_its_stream_with_an_error(
    client: httpx.AsyncClient, front: FakeFront
) -> None:
    front.breaks = True
    response = await client.post("/v1/chat/completions", json={**CHAT, "stream": True})

    assert "Par" in response.text
    assert "broke off: RuntimeError" in response.text
    assert "[DONE]" not in response.text
    assert front.closed == 1


async def test_readiness_says_what_is_missing(client: httpx.AsyncClient, front: FakeFront) -> None:
    assert (await client.get("/health")).status_code == 200
    assert (await client.get("/ready")).status_code == 200
    front.missing = "the first replica"
    waiting = await client.get("/ready")

    assert waiting.status_code == 503
    assert waiting.json()["for"] == "the first replica"
    assert "kvplane_replicas" in (await client.get("/metrics")).text


@pytest.mark.parametrize("path, status", [("/v1/nothing", 404), ("/v1/models", 405)])
async def test_wrong_paths_and_methods_are_errors_in_the_same_shape(
    client: httpx.AsyncClient, path: str, status: int
) -> None:
    response = await client.put(path)

    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


async def test_what_is_left_of_a_limit_is_told_with_answers_and_refusals(
    client: httpx.AsyncClient, front: FakeFront
) -> None:
    whole = await client.post("/v1/chat/completions", json=CHAT)
    stream = await client.post("/v1/chat/completions", json={**CHAT, "stream": True})
    front.refusal = LimitReached("60 requests per minute", "rate_limit_exceeded", 7)
    front.refusal.headers = {"x-ratelimit-remaining-requests": "0"}
    refused = await client.post("/v1/chat/completions", json=CHAT)

    assert whole.headers["x-ratelimit-limit-requests"] == stream.headers["x-ratelimit-limit-requests"] == "60"
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.json()["error"]["type"] == "rate_limit_error"


async def test_a_client_that_left_before_the_first_byte_leaves_nothing_open(front: FakeFront) -> None:
    headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "headers": headers}
    body = json.dumps({**CHAT, "stream": True}).encode()

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(_: object) -> None:
        raise OSError("the client has left")

    with pytest.raises((ClientDisconnect, OSError)):
        await build_http(front)({**scope, "asgi": {"spec_version": "2.4"}}, receive, send)

    assert (front.closed, front.ended) == (1, 0)
