"""What a client sees of a stream, on a clock that the stream itself moves."""

from collections.abc import Callable, Iterator, Sequence

import httpx
import pytest

from kvplane.controlplane.audit.ask import ask, asking
from kvplane.controlplane.audit.errors import AuditFailed, NoAnswer
from kvplane.controlplane.audit.reply import Reply

KEY = "sk-acme-support-0001"
FIRST = b'data: {"id": "cmpl-d1", "choices": [{"index": 0, "text": "x", "finish_reason": "length"}]}\n\n'
USAGE = (
    b'data: {"id": "cmpl-d1", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1,'
    b' "prompt_tokens_details": {"cached_tokens": 8}}}\n\n'
)
DONE = b"data: [DONE]\n\n"


class Stream(httpx.SyncByteStream):
    """Each piece comes at its second."""

    def __init__(self, *pieces: tuple[float, bytes]) -> None:
        self.now = 100.0
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for at, piece in self._pieces:
            self.now = at
            yield piece


def client(answer: Callable[[httpx.Request], httpx.Response]) -> httpx.Client:
    return httpx.Client(base_url="http://fake/v1", transport=httpx.MockTransport(answer))


def replied(*pieces: tuple[float, bytes]) -> Reply:
    stream = Stream(*pieces)
    return ask(client(lambda _: httpx.Response(200, stream=stream)), "m", KEY, "a b", clock=lambda: stream.now)


def test_the_time_is_that_of_the_first_piece_and_the_usage_that_of_the_last() -> None:
    reply = replied((100.25, FIRST), (107.0, USAGE), (108.0, DONE))

    assert reply == Reply("d1", 250.0, prompt_tokens=9, cached_tokens=8)


def test_a_usage_that_tells_of_no_cache_counts_none() -> None:
    plain = b'data: {"id": "cmpl-d1", "usage": {"prompt_tokens": 9, "completion_tokens": 1}}\n\n'

    assert replied((100.5, FIRST), (101.0, plain), (101.0, DONE)).cached_tokens == 0


def test_one_token_of_the_exact_prompt_is_asked_for_under_the_key() -> None:
    seen: list[httpx.Request] = []
    ask(client(lambda it: seen.append(it) or httpx.Response(200, content=FIRST + USAGE)), "m", KEY, "a b")  # type: ignore[func-returns-value]

    [request] = seen
    assert request.url.path == "/v1/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    for part in (b'"model":"m"', b'"prompt":"a b"', b'"max_tokens":1,', b'"stream":true', b'"include_usage":true'):
        assert part in request.content


@pytest.mark.parametrize(
    "pieces, why",
    [
        ([FIRST, DONE], "before its usage"),
        ([USAGE[:40]], "DecodeError"),
        ([b'data: {"error": {"message": "engine died"}}\n\n'], "engine died"),
    ],
)
def test_an_answer_that_breaks_off_is_none(pieces: Sequence[bytes], why: str) -> None:
    with pytest.raises(NoAnswer, match=why):
        replied(*((100.0, piece) for piece in pieces))


def test_a_refusal_is_told_without_the_key() -> None:
    refusing = client(lambda _: httpx.Response(429, text=f"{KEY} has used up its requests"))
    with pytest.raises(NoAnswer, match=r"HTTP 429: \*\*\* has used up"):
        ask(refusing, "m", KEY, "a b")


def test_nobody_at_home_says_what_to_do() -> None:
    with pytest.raises(AuditFailed, match="kvplane up"), asking("http://127.0.0.1:1/v1", KEY):
        pass
