"""The feed on real sockets, against a publisher that does as vLLM's does."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import msgspec
import pytest

from kvplane.workers.engine import Cleared, Removed
from kvplane.workers.vllm_events import BlockRemoved, EventBatch, VllmEvents

pytest.importorskip("zmq", reason="pyzmq is an extra")

import zmq
import zmq.asyncio

from kvplane.workers.vllm_feed import feed

HOST = "tcp://127.0.0.1"
END = b"\xff" * 8


class Server:
    """PUB and ROUTER; `publish` may lose a message on the way."""

    def __init__(self, pub: zmq.asyncio.Socket, router: zmq.asyncio.Socket) -> None:
        self._pub, self._router = pub, router
        self.kept: list[bytes] = []

    async def publish(self, block: int, lost: bool = False) -> None:
        payload = msgspec.msgpack.encode(EventBatch(0.0, (BlockRemoved(block_hashes=(block,)),)))
        self.kept.append(payload)
        if not lost:
            await self._pub.send_multipart([b"r1", (len(self.kept) - 1).to_bytes(8, "big"), payload])

    async def answer(self) -> None:
        while True:
            client, empty, wanted = await self._router.recv_multipart()
            for number in range(int.from_bytes(wanted, "big"), len(self.kept)):
                frames = [client, empty, number.to_bytes(8, "big"), self.kept[number]]
                await self._router.send_multipart(frames)
            await self._router.send_multipart([client, empty, b"", END, b""])


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Server, str, str]]:
    with zmq.asyncio.Context() as context, context.socket(zmq.PUB) as pub, context.socket(zmq.ROUTER) as router:
        pub.linger = router.linger = 0
        events, replay = (f"{HOST}:{socket.bind_to_random_port(HOST)}" for socket in (pub, router))
        server = Server(pub, router)
        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(server.answer())
            yield server, events, replay
            answering.cancel()


async def take(batches: AsyncIterator[tuple[int, Sequence[object]]], count: int) -> list[tuple[int, list[object]]]:
    async with asyncio.timeout(30):
        return [(number, list(batch)) for number, batch in [await anext(batches) for _ in range(count)]]


async def test_what_was_missed_is_asked_for_before_between_and_behind_live_messages() -> None:
    async with serving() as (server, events, replay):
        await server.publish(10)
        async with aclosing(feed(events, replay, VllmEvents().read, "r1")) as batches:
            first = await take(batches, 1)
            await server.publish(11, lost=True)
            await server.publish(12)
            await server.publish(13, lost=True)
            rest = await take(batches, 3)

    assert first + rest == [(number, [Removed((10 + number,))]) for number in range(4)]


async def test_a_server_that_starts_anew_has_nothing_until_it_says_so() -> None:
    async with serving() as (server, events, replay):
        await server.publish(10)
        async with aclosing(feed(events, replay, VllmEvents().read)) as batches:
            before = await take(batches, 1)
            server.kept.clear()
            await server.publish(20)
            after = await take(batches, 2)

    assert before == [(0, [Removed((10,))])]
    assert after == [(-1, [Cleared()]), (0, [Removed((20,))])]
