"""What a client measures of a stream, on a clock that the stream itself moves."""

from collections.abc import AsyncIterator, Sequence

import httpx
import pytest

from kvplane.controlplane.demo.chat import ChatFailed, Completion, chat

FIRST = b'data: {"id": "chatcmpl-d1", "choices": [{"delta": {"role": "assistant", "content": "Hel"}}]}\n\n'
SECOND = b'data: {"id": "chatcmpl-d1", "choices": [{"delta": {"content": "lo"}, "finish_reason": "stop"}]}\n\n'
USAGE = b'data: {"id": "chatcmpl-d1", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}\n\n'
DONE = b"data: [DONE]\n\n"


class Stream(httpx.AsyncByteStream):
    """Each piece comes at its second."""

    def __init__(self, pieces: Sequence[tuple[float, bytes]]) -> None:
        self.now = 100.0
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at, piece in self._pieces:
            self.now = 100.0 + at
            yield piece


async def asked(*pieces: tuple[float, bytes], status: int = 200) -> Completion:
    stream = Stream(pieces)
    transport = httpx.MockTransport(lambda request: httpx.Response(status, stream=stream))
    async with httpx.AsyncClient(transport=transport, base_url="http://x/v1") as client:
        return await chat(client, "key", "m", [], 16, lambda: stream.now)


async def test_ttft_ends_with_the_first_token_not_with_the_answer() -> None:
    got = await asked((0.25, FIRST), (3.0, SECOND), (3.5, USAGE), (3.5, DONE))

    assert got == Completion("d1", "Hello", prompt_tokens=9, cached_tokens=0, ttft_ms=250.0)


async def test_an_event_cut_in_two_by_the_network_is_one_event() -> None:
    got = await asked((0.25, FIRST[:40]), (0.5, FIRST[40:]), (1.0, SECOND + USAGE + DONE))

    assert (got.text, got.ttft_ms) == ("Hello", 500.0)


@pytest.mark.parametrize(
    ("pieces", "status", "why"),
    [
        ([(0.1, b'{"error": {"message": "too many"}}')], 503, "HTTP 503.*too many"),
        ([(0.1, FIRST), (0.2, b'data: {"error": {"message": "it broke"}}\n\n')], 200, "it broke"),
        ([(0.1, FIRST)], 200, "ended before"),
        ([(0.1, b"data: no JSON\n\n")], 200, "JSON"),
    ],
)
async def test_what_is_no_answer_says_why(pieces: Sequence[tuple[float, bytes]], status: int, why: str) -> None:
    with pytest.raises(ChatFailed, match=why):
        await asked(*pieces, status=status)


async def test_a_connection_that_fails_is_named() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse), base_url="http://x/v1") as client:
        with pytest.raises(ChatFailed, match="ConnectError: refused"):
            await chat(client, "key", "m", [], 16)
