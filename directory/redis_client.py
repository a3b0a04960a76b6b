"""Redis behind a few verbs: bounded in time, its failures told in the directory's own words."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from .backoff import delays
from .errors import BadMessage, PagesDown, SlotMoves
from .redis_node import Argument, Nodes

_SETTLE = 0.75  # of the longest wait: what is left is for the last answer, which says more than a timeout does

# Nothing was done, and it will pass: a slot or a primary is on its way from one node to another.
_UNSETTLED = (TryAgainError, ClusterDownError, BusyLoadingError, ReadOnlyError)


class Script:
    """A Lua script, sent by its digest and in full only where it is not known yet."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text()
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class RedisClient:
    """Every verb raises `PagesDown`, after `timeout_s` at the latest, and `BadMessage` for a key of a wrong type."""

    def __init__(self, nodes: Nodes, timeout_s: float) -> None:
        self._nodes = nodes
        self._timeout_s = timeout_s

    # Any: a reply's shape is the command's own
    async def once(self, key: str, *command: Argument) -> Any:
        """Run a command on the server that keeps `key`. Raises `SlotMoves` too."""
        async with self._answered():
            return await self._nodes.send(key, *command)

    async def call(self, key: str, *command: Argument) -> Any:
        """The same, tried again while the cluster settles."""
        async with self._answered():
            return await self._settled(lambda: self._nodes.send(key, *command))

    async def run(self, script: Script, keys: Sequence[str], *arguments: Argument) -> Any:
        """Run a script over keys of one hash tag, tried again while the cluster settles."""
        parts = (len(keys), *keys, *arguments)

        async def send() -> Any:
            try:
                return await self._nodes.send(keys[0], "EVALSHA", script.digest, *parts)
            except NoScriptError:  # EVAL loads it too, and on this very node: SCRIPT LOAD would need all of them up
                return await self._nodes.send(keys[0], "EVAL", script.text, *parts)

        async with self._answered():
            return await self._settled(send)

    async def where(self, key: str) -> str:
        """The host and port of the server that keeps `key`."""
        async with self._answered():
            return await self._nodes.where(key)

    async def aclose(self) -> None:
        await self._nodes.aclose()

    async def _settled(self, send: Callable[[], Awaitable[Any]]) -> Any:
        until = time.monotonic() + _SETTLE * self._timeout_s
        for delay_s in delays(0.02, 0.5):
            try:
                return await send()
            except _UNSETTLED:
                if time.monotonic() + delay_s > until:
                    raise
                await asyncio.sleep(delay_s)
        raise AssertionError("delays never end")

    @asynccontextmanager
    async def _answered(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except (RedisError, OSError) as exc:  # OSError: asyncio's TimeoutError is one
            raise _told(exc) from exc


def _told(error: Exception) -> PagesDown | BadMessage:
    match error:
        case OutOfMemoryError():
            return PagesDown(
                "Redis is full and refused a page, which is written again once it fits:"
                f" raise its maxmemory, or spread the directory over more nodes ({error})"
            )
        case TryAgainError():
            return SlotMoves(f"keys of one slot are on two nodes until it has moved: {error}")
        case ResponseError() if str(error).startswith("WRONGTYPE"):
            return BadMessage(f"a key of a page is of another type than was written there: {error}")
        case _:
            return PagesDown(f"Redis does not answer: {type(error).__name__}: {error}")
