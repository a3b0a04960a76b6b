"""Pages in Redis: a log, a checkpoint and a head per holder, which only scripts write, each in one step."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from .backoff import delays
from .errors import BadMessage, PagesDown
from .ids import HolderId
from .pages import Appended, PageSize
from .redis_client import RedisClient, Script
from .redis_keys import PageKeys, page_keys
from .redis_tail import START, Entry, Pace, RedisTail, order
from .wire import MAX_BODY_BYTES, Sealed

_LUA = Path(__file__).parent / "lua"
_READERS = 2  # whole pages of one shard read at once: after its loss every mirror wants all of them
_MAX_CHECKPOINT_BYTES = MAX_BODY_BYTES + 64
_MAX_LOG_BYTES = 4 * MAX_BODY_BYTES  # it reaches back two checkpoints, each written when the log has outgrown it
_ENTRIES = 256  # of a log at first; the tail reads the rest


class RedisPages:
    """Open it with `async with`; what it runs in the background ends there."""

    def __init__(self, client: RedisClient, shards: int, lease_s: float) -> None:
        self._client = client
        self._shards = shards
        self._lease_ms = round(lease_s * 1000)
        self._append = Script(_LUA / "append.lua")
        self._checkpoint = Script(_LUA / "checkpoint.lua")
        self._read = Script(_LUA / "read.lua")
        self._reading = [asyncio.Semaphore(_READERS) for _ in range(shards)]
        self._pace = Pace()
        self._tails: dict[int, RedisTail] = {}
        self._running: list[asyncio.Task[None]] = []
        self._tasks = asyncio.TaskGroup()

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
        keys = page_keys(batch.holder, self._shards)
        numbers = (batch.epoch, batch.seq, batch.seq - 1)
        added = await self._client.run(self._append, keys.all, *numbers, batch.body, self._lease_ms)
        return Appended(lost=not added)

    async def checkpoint(self, checkpoint: Sealed) -> None:
        keys = page_keys(checkpoint.holder, self._shards)
        numbers = (checkpoint.epoch, checkpoint.seq)
        value = b"%d-%d %b" % (*numbers, checkpoint.body)
        await self._client.run(self._checkpoint, keys.all, *numbers, value, self._lease_ms)

    async def follow(self, holder: HolderId) -> AsyncGenerator[Sealed, None]:
        keys = page_keys(holder, self._shards)
        checkpoint, log = await self._whole(keys)
        position = START
        if checkpoint is not None:
            position = b"%d-%d" % (checkpoint.epoch, checkpoint.seq)
            yield checkpoint
        for entry in log:
            position = entry[0]
            yield _batch(holder, entry)
        with self._tail(keys).join(keys.log, position) as follower:
            while True:
                for entry in await follower.arrived():
                    yield _batch(holder, entry)

    async def drop(self, holder: HolderId) -> None:
        keys = page_keys(holder, self._shards)
        await self._client.call(keys.log, "DEL", *keys.all)

    async def measure(self, holder: HolderId) -> PageSize:
        keys = page_keys(holder, self._shards)
        log, checkpoint, head = [await self._client.call(key, "MEMORY", "USAGE", key) or 0 for key in keys.all]
        return PageSize(keys.shard, await self._client.where(keys.log), log, checkpoint, head)

    def _tail(self, keys: PageKeys) -> RedisTail:
        tail = self._tails.get(keys.shard)
        if tail is None:
            tail = self._tails[keys.shard] = RedisTail(self._client, keys.tag, self._pace)
            self._running.append(self._tasks.create_task(tail.run()))
        return tail

    async def _whole(self, keys: PageKeys) -> tuple[Sealed | None, Sequence[Entry]]:
        """The checkpoint and the first of the log behind it, once Redis answers."""
        limits = (_MAX_CHECKPOINT_BYTES, _MAX_LOG_BYTES, _ENTRIES)
        for delay_s in delays(0.05, 0.5):
            try:
                async with self._reading[keys.shard]:
                    sizes_and_parts = await self._client.run(self._read, (keys.log, keys.checkpoint), *limits)
            except PagesDown:
                await asyncio.sleep(delay_s)
                continue
            checkpoint_bytes, log_bytes, *parts = sizes_and_parts
            if not parts:
                raise BadMessage(
                    f"{keys.holder}: a checkpoint of {checkpoint_bytes} and a log of {log_bytes} bytes;"
                    f" at most {_MAX_CHECKPOINT_BYTES} and {_MAX_LOG_BYTES} are read"
                )
            return None if parts[0] is None else _checkpoint(keys.holder, parts[0]), parts[1]
        raise AssertionError("delays never end")


def _checkpoint(holder: HolderId, value: bytes) -> Sealed:
    place, _, body = value.partition(b" ")
    try:
        epoch, seq = order(place)
    except ValueError as exc:
        raise BadMessage(f"{holder}: a checkpoint begins with its epoch and seq; got {place[:40]!r}") from exc
    return Sealed(holder, epoch, seq, body)


def _batch(holder: HolderId, entry: Entry) -> Sealed:
    place, fields = entry
    epoch, seq = order(place)
    if len(fields) != 2 or fields[0] != b"body":
        raise BadMessage(f"{holder}: log entry {place.decode()} is no batch")
    return Sealed(holder, epoch, seq, fields[1])
