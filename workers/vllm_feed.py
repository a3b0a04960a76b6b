"""The KV events of a vLLM or SGLang server as its sockets give them: whole, in order, and through restarts."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial

import zmq
import zmq.asyncio

from .engine import Cleared, EngineEvent
from .gaps import Lost, Message, in_order

Batch = Sequence[EngineEvent]

_SILENCE_S = 1.0
_REPLAY_S = 5.0  # publishers look for such requests between their batches, ten times a second at the least
_END = b"\xff" * 8


async def feed(
    events: str, replay: str | None, read: Callable[[bytes], Batch], topic: str = ""
) -> AsyncGenerator[tuple[int, Batch], None]:
    """Follow a publisher's PUB address, and what its ROUTER address has of what was missed, until closed.

    Yields batches with their numbers; a `Cleared` with the number -1 where some are lost for good, or the server has
    started anew: nothing is known to be held.
    """
    with zmq.asyncio.Context() as context:
        live = _live(context, events, topic)
        async with aclosing(live), aclosing(in_order(live, partial(_replayed, context, replay))) as messages:
            async for message in messages:
                match message:
                    case Lost():
                        yield -1, (Cleared(),)
                    case Message():
                        yield message.number, read(message.payload)


async def _live(context: zmq.asyncio.Context, events: str, topic: str) -> AsyncGenerator[Message | None, None]:
    with context.socket(zmq.SUB) as socket:
        socket.set_hwm(0)  # a replay may take long
        socket.subscribe(topic.encode())
        socket.connect(events)
        yield None  # what was published before the subscription
        while True:
            if await socket.poll(_SILENCE_S * 1e3):
                told_topic, number, payload = await socket.recv_multipart()
                if told_topic == topic.encode() or not topic:  # a subscription is to a topic's beginning
                    yield Message(int.from_bytes(number, "big"), payload)
            else:
                yield None


async def _replayed(context: zmq.asyncio.Context, address: str | None, wanted: int) -> AsyncGenerator[Message, None]:
    """A socket for each request: what is left of an answer that was not waited for would be taken for the next one."""
    if address is None:
        raise TimeoutError("there is no address for replays")
    with context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(address)
        await socket.send_multipart([b"", wanted.to_bytes(8, "big")])
        while True:
            async with asyncio.timeout(_REPLAY_S):
                frames = await socket.recv_multipart()
            *_, number, payload = frames  # before them a topic, in some versions
            if number == _END:
                return
            yield Message(int.from_bytes(number, "big"), payload)
