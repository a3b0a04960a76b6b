"""HTTP/1.1 just enough to measure with: one request at a time on a connection kept open, and little CPU of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from .errors import BenchError

_PATIENCE_S = 30.0  # for one answer


@dataclass(frozen=True, slots=True)
class Target:
    """Where chat completions are answered."""

    name: str
    port: int
    path: str
    key: str

    def head(self, length: int) -> bytes:
        return (
            f"POST {self.path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\nauthorization: Bearer {self.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        ).encode()


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection to a target."""

    target: Target
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. Raises `BenchError` for an answer without a length, or none in time."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                self.writer.write(self.target.head(len(body)) + body)
                await self.writer.drain()
                head = await self.reader.readuntil(b"\r\n\r\n")
                return _status(head), await self.reader.readexactly(_length(head))
        except (OSError, EOFError, TimeoutError) as exc:
            raise BenchError(f"{self.target.name} gave no answer: {exc!r}") from exc


@asynccontextmanager
async def connected(target: Target) -> AsyncIterator[Connection]:
    """Open a connection, and close it on leaving. Raises `BenchError` if nobody listens."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    except OSError as exc:
        raise BenchError(f"{target.name} takes no connection: {exc}") from exc
    try:
        yield Connection(target, reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


def _status(head: bytes) -> int:
    return int(head.split(b" ", 2)[1])


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise BenchError(f"an answer without a content-length cannot be measured here: {head[:200]!r}")
