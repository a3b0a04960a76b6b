"""Pages in Redis: the keys of a page share a hash tag, so it lives on one shard and one script reaches all of it."""

import asyncio
import zlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from .backoff import delays
from .errors import BadMessage, PagesDown
from .ids import HolderId
from .pages import Appended
from .redis_client import RedisClient, Script
from .redis_tail import START, Entry, RedisTail, order
from .wire import Sealed

_LUA = Path(__file__).parent / "lua"
_READERS = 8  # whole pages read at once: after a shard's loss every mirror wants all of them


class RedisPages:
    """Open it with `async with`; what it runs in the background ends there."""

    def __init__(self, client: RedisClient, shards: int, lease_s: float) -> None:
        self._client = client
        self._shards = shards
        self._lease_ms = round(lease_s * 1000)
        self._append = Script(_LUA / "append.lua")
        self._checkpoint = Script(_LUA / "checkpoint.lua")
        self._tails: dict[int, RedisTail] = {}
        self._running: list[asyncio.Task[None]] = []
        self._tasks = asyncio.TaskGroup()
        self._reading = asyncio.Semaphore(_READERS)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._running:
            task.cancel()
        try:
            await self._tasks.__aexit__(kind, error, trace)
        finally:
            await self._client.aclose()

    async def append(self, batch: Sealed) -> Appended:
        keys = self._keys(batch.holder)
        numbers = (batch.epoch, batch.seq, batch.seq - 1)
        added = await self._client.run(self._append, keys.all, *numbers, batch.body, self._lease_ms)
        return Appended(lost=not added)

    async def checkpoint(self, checkpoint: Sealed) -> None:
        keys = self._keys(checkpoint.holder)
        numbers = (checkpoint.epoch, checkpoint.seq)
        value = b"%d-%d %b" % (*numbers, checkpoint.body)
        await self._client.run(self._checkpoint, keys.all, *numbers, value, self._lease_ms)

    async def follow(self, holder: HolderId) -> AsyncGenerator[Sealed, None]:
        keys = self._keys(holder)
        checkpoint, log = await self._read(keys)
        position = START
        if checkpoint is not None:
            position = f"{checkpoint.epoch}-{checkpoint.seq}"
            yield checkpoint
        for entry in log:
            position = entry[0]
            yield _batch(holder, entry)
        with self._tail(keys.shard).join(keys.log, position) as follower:
            async for entry in follower.entries():
                yield _batch(holder, entry)

    async def drop(self, holder: HolderId) -> None:
        keys = self._keys(holder)
        await self._client.call(keys.log, "DEL", *keys.all)

    def _keys(self, holder: HolderId) -> "_Keys":
        return _Keys(holder, zlib.crc32(holder.encode()) % self._shards)

    def _tail(self, shard: int) -> RedisTail:
        tail = self._tails.get(shard)
        if tail is None:
            tail = self._tails[shard] = RedisTail(self._client)
            self._running.append(self._tasks.create_task(tail.run()))
        return tail

    async def _read(self, keys: "_Keys") -> tuple[Sealed | None, list[Entry]]:
        """The checkpoint, then the log behind it: a checkpoint written in between leaves that part of the log."""
        for delay_s in delays(0.05, 1.0):
            try:
                async with self._reading:
                    value = await self._client.call(keys.checkpoint, "GET", keys.checkpoint)
                    checkpoint = None if value is None else _checkpoint(keys.holder, value)
                    behind = START if checkpoint is None else f"{checkpoint.epoch}-{checkpoint.seq}"
                    found = await self._client.call(keys.log, "XRANGE", keys.log, f"({behind}", "+")
                    return checkpoint, [(place.decode(), fields) for place, fields in found]
            except PagesDown:
                await asyncio.sleep(delay_s)
        raise AssertionError("delays never end")


@dataclass(frozen=True, slots=True)
class _Keys:
    holder: HolderId
    shard: int

    @property
    def log(self) -> str:
        return self._key("log")

    @property
    def checkpoint(self) -> str:
        return self._key("checkpoint")

    @property
    def all(self) -> tuple[str, str, str]:
        return self.log, self.checkpoint, self._key("head")

    def _key(self, part: str) -> str:
        return f"{{kv:{self.shard:02d}}}:{self.holder}:{part}"


def _checkpoint(holder: HolderId, value: bytes) -> Sealed:
    place, _, body = value.partition(b" ")
    try:
        epoch, seq = order(place.decode())
    except ValueError as exc:
        raise BadMessage(f"{holder}: a checkpoint begins with its epoch and seq; got {place[:40]!r}") from exc
    return Sealed(holder, epoch, seq, body)


def _batch(holder: HolderId, entry: Entry) -> Sealed:
    place, fields = entry
    epoch, seq = order(place)
    body = fields.get(b"body")
    if body is None:
        raise BadMessage(f"{holder}: log entry {place} has no body")
    return Sealed(holder, epoch, seq, body)
