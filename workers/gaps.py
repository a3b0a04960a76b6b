"""A publisher's numbered messages in order and whole: what was missed is asked for, what is lost is said."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    """One as published; numbers rise by one, from 0 in each life of the publisher."""

    number: int
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Lost:
    """Something that nobody can tell any more came before the next message."""

    why: str


Replay = Callable[[int], AsyncGenerator[Message, None]]
"""All that the publisher still has from a number on, in order. Raises `TimeoutError` if it does not answer."""


async def in_order(live: AsyncIterator[Message | None], replay: Replay) -> AsyncGenerator[Message | Lost, None]:
    """Yield every message once, from number 0 on; None among the live ones is a silence: the last may be missing."""
    order = _Order(replay)
    async for message in live:
        async with aclosing(order.take(message)) as messages:
            async for told in messages:
                if isinstance(told, Lost):
                    log.error("messages are lost: %s", told.why)
                yield told


class _Order:
    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._last: Message | None = None  # that was told
        self._newest = -1  # of the live ones

    @property
    def _wanted(self) -> int:
        return self._last.number + 1 if self._last else 0

    async def take(self, message: Message | None) -> AsyncGenerator[Message | Lost, None]:
        if message is not None and message.number <= self._newest:  # live ones only rise
            yield self._begin_anew()
        if message is None or message.number > self._wanted:
            async with aclosing(self._missed()) as messages:
                async for missed in messages:
                    yield missed
        if message is not None:
            self._newest = message.number
            for told in self._next(message):
                yield told

    async def _missed(self) -> AsyncGenerator[Message | Lost, None]:
        """Ask from the last one that was told on: if that is not what it was, this is another life of the publisher."""
        try:
            async with aclosing(self._replay(max(0, self._wanted - 1))) as messages:
                first = await anext(messages, None)
                if self._last is None or (first and (first == self._last or first.number > self._last.number)):
                    for told in self._next(first):
                        yield told
                    async for message in messages:
                        for told in self._next(message):
                            yield told
                    return
            yield self._begin_anew()
            async with aclosing(self._replay(0)) as messages:
                async for message in messages:
                    for told in self._next(message):
                        yield told
        except TimeoutError:  # what is missing is lost as soon as something comes behind it
            log.debug("the publisher does not answer when it is asked for %d", self._wanted)

    def _next(self, message: Message | None) -> list[Message | Lost]:
        """A message, unless it was told; and before it, if some are missing, that they are lost."""
        if message is None or message.number < self._wanted:
            return []
        missing = message.number - self._wanted
        lost = [Lost(f"{missing} from {self._wanted} on are not kept any more")] if missing else []
        self._last = message
        return [*lost, message]

    def _begin_anew(self) -> Lost:
        self._last, self._newest = None, -1
        return Lost("the publisher has begun anew")
