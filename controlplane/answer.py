"""Deltas to text: detokenises, stops at stop strings, counts usage."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass

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


async def pieces(
    answering: Answering, prompt_tokens: int, detokenizer: Detokenizer, stops: Sequence[str]
) -> AsyncGenerator[Piece, None]:
    """Yield text as it comes, the last piece with its finish. Leaving early ends the generation."""
    held, produced = "", 0
    try:
        async for delta in _all(answering):
            produced += len(delta.token_ids)
            held += detokenizer.push(delta.token_ids)
            usage = Usage(prompt_tokens, produced, delta.cached_tokens)
            at = min((held.find(stop) for stop in stops if stop in held), default=-1)
            if at >= 0:
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
