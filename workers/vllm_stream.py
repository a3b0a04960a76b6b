"""vLLM's KV events as they come over its sockets: in order and whole, what was missed asked for again."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import zmq
import zmq.asyncio

from .engine import Cleared, EngineEvent
from .vllm_events import VllmEvents

log = logging.getLogger(__name__)

_SILENCE_S = 1.0
_REPLAY_S = 10.0  # vLLM looks for such requests between its batches, ten times a second at the least
_END = b"\xff" * 8


@dataclass(frozen=True, slots=True)
class Message:
    """One batch as published; numbers rise by one from 0."""

    number: int
    payload: bytes


Replay = Callable[[int], AsyncIterator[Message]]


async def in_order(live: AsyncIterator[Message | None], replay: Replay) -> AsyncGenerator[Sequence[EngineEvent], None]:
    """Yield every batch once, from number 0 on. None among the live ones is a silence: the last one may be lost.

    What not even the replay has is lost for good: then nothing is known to be held any more.
    """
    wanted, decode = 0, VllmEvents().read
    async for message in live:
        if message is not None and message.number < wanted:
            continue
        if message is not None and message.number == wanted:
            wanted += 1
            yield decode(message.payload)
            continue
        async for missed in replay(wanted):
            if missed.number < wanted:
                continue
            if missed.number > wanted:
                log.error("KV events %d to %d are lost; all blocks count as gone", wanted, missed.number - 1)
                yield (Cleared(),)
            wanted = missed.number + 1
            yield decode(missed.payload)


async def subscribed(events: str, replay: str) -> AsyncGenerator[Sequence[EngineEvent], None]:
    """Listen to a publisher's two addresses until closed."""
    with zmq.asyncio.Context() as context, context.socket(zmq.SUB) as live, context.socket(zmq.DEALER) as asking:
        live.subscribe(b"")
        live.connect(events)
        asking.connect(replay)
        async with aclosing(in_order(_live(live), lambda wanted: _replayed(asking, wanted))) as batches:
            async for batch in batches:
                yield batch


async def _live(socket: zmq.asyncio.Socket) -> AsyncIterator[Message | None]:
    yield None  # what was published before the subscription
    while True:
        if not await socket.poll(_SILENCE_S * 1e3):
            yield None
            continue
        _topic, number, payload = await socket.recv_multipart()
        yield Message(int.from_bytes(number, "big"), payload)


async def _replayed(socket: zmq.asyncio.Socket, wanted: int) -> AsyncIterator[Message]:
    """All that the publisher still has from a number on. Raises `TimeoutError`."""
    await socket.send_multipart([b"", wanted.to_bytes(8, "big")])
    while True:
        async with asyncio.timeout(_REPLAY_S):
            _empty, _topic, number, payload = await socket.recv_multipart()
        if number == _END:
            return
        yield Message(int.from_bytes(number, "big"), payload)
