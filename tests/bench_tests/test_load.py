"""The load generator against a server of a few lines."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import repeat

import pytest

from kvplane.tests.bench.client import Target, connected
from kvplane.tests.bench.errors import BenchError
from kvplane.tests.bench.load import load, ready


class Server:
    """Answers each request in turn with the next of its answers, the last one for ever."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.connections = 0
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests.append(head + await reader.readexactly(4))
                reply = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
                if not reply:  # as a proxy that drops the connection
                    break
                writer.write(reply)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


def answer(status: int, body: bytes = b"hello") -> bytes:
    return f"HTTP/1.1 {status} Some Words\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def listening(server: Server) -> AsyncIterator[Target]:
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listener:
        yield Target("it", listener.sockets[0].getsockname()[1], "/chat", "sk-1")


async def test_a_connection_serves_many_requests() -> None:
    server = Server(answer(200, b"one"), answer(404, b""), answer(200, b"two"))
    async with listening(server) as target, connected(target) as connection:
        answers = [await connection.post(b"body") for _ in range(3)]

    assert answers == [(200, b"one"), (404, b""), (200, b"two")]
    assert server.connections == 1
    assert server.requests[0].startswith(b"POST /chat HTTP/1.1\r\n")
    assert server.requests[0].endswith(b"content-length: 4\r\n\r\nbody")
    assert b"authorization: Bearer sk-1\r\n" in server.requests[0]


async def test_an_answer_without_a_length_cannot_be_measured() -> None:
    async with listening(Server(b"HTTP/1.1 200 OK\r\n\r\n")) as target, connected(target) as connection:
        with pytest.raises(BenchError, match="content-length"):
            await connection.post(b"body")


async def test_so_many_connections_ask_and_every_answer_is_timed() -> None:
    server = Server(answer(200))
    async with listening(server) as target:
        found = await load(target, repeat(b"body"), concurrency=4, seconds=0.05)

    assert server.connections == 4
    assert len(found.latencies_us) == len(server.requests) >= 4
    assert all(0 < latency <= found.took_s * 1e6 for latency in found.latencies_us)


async def test_an_error_ends_the_measurement() -> None:
    async with listening(Server(answer(200), answer(503, b"busy"))) as target:
        with pytest.raises(BenchError, match=r"503.*busy"):
            await load(target, repeat(b"body"), concurrency=1, seconds=5)


async def test_a_target_is_ready_once_it_answers_well() -> None:
    server = Server(answer(404), b"", answer(503), answer(200))
    async with listening(server) as target:
        await ready(target, b"body", settled_s=0)

    assert len(server.requests) == 4


async def test_a_target_that_answers_badly_again_is_not_yet_ready() -> None:
    server = Server(answer(200), answer(404), answer(200))
    async with listening(server) as target:
        await ready(target, b"body", settled_s=0.06)

    assert len(server.requests) >= 4


async def test_nobody_listening_is_an_error_that_says_who() -> None:
    async with listening(Server(answer(200))) as target:
        pass

    with pytest.raises(BenchError, match="it takes no connection"):
        await load(target, repeat(b"body"), concurrency=1, seconds=1)
