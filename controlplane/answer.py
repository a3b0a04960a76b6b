"""Deltas to text: detokenises, stops at stop strings, counts usage."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from ..workers import Delta
from .openai import Usage
from .router_half import Answering
from .tokens import Detokenizer


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text, and how the answer ended with it."""

    text: str
    finish: str | None
    usage: Usage  # so far


class Answer:
    """An answer that is read piece by piece. However it ends, and if it is never begun, `aclose` ends it, once.

    `closing` is told the last piece that was read; None: there was none.
    """

    def __init__(
        self,
        id: str,
        text: AsyncGenerator[Piece, None],
        closing: Callable[[Piece | None], Awaitable[None]],
        headers: Mapping[str, str],
    ) -> None:
        self.id = id  # of its decision
        self.headers = headers
        self._text = text
        self._closing: Callable[[Piece | None], Awaitable[None]] | None = closing
        self._last: Piece | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        self._last = await anext(self._text)
        return self._last

    async def aclose(self) -> None:
        closing, self._closing = self._closing, None
        if closing is None:
            return
        try:
            await self._text.aclose()
        finally:
            await closing(self._last)


async def pieces(
    answering: Answering, prompt_tokens: int, detokenizer: Detokenizer, stops: Sequence[str]
) -> AsyncGenerator[Piece, None]:
    """Yield text as it comes, the last piece with its finish, and billed. Leaving early ends the generation."""
    held, produced = "", 0
    try:
        async for delta in _all(answering):
            produced += len(delta.token_ids)
            held += detokenizer.push(delta.token_ids)
            usage = Usage(prompt_tokens, produced, delta.cached_tokens)
            at = min((held.find(stop) for stop in stops if stop in held), default=-1)
            if at >= 0:
                await answering.stop()
                yield Piece(held[:at], "stop", usage)
                return
            keep = 0 if delta.finish else _may_begin_stop(held, stops)
            text, held = held[: len(held) - keep], held[len(held) - keep :]
            yield Piece(text, delta.finish, usage)
    finally:
        await answering.close()


async def _all(answering: Answering) -> AsyncIterator[Delta]:
    yield answering.first
    async for delta in answering.rest:
        yield delta


def _may_begin_stop(text: str, stops: Sequence[str]) -> int:
    """How many trailing characters could be the beginning of a stop string."""
    longest = max((len(stop) - 1 for stop in stops), default=0)
    for size in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return size
    return 0
