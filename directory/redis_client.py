"""A Redis behind two verbs: bounded in time, its failures told in the directory's own words."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from .errors import PagesDown

Argument = str | bytes | int


class Script:
    """A Lua script, sent by its digest and in full only where it is not known yet."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text()
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class Nodes(Protocol):
    """The servers there are: one, or those of a cluster. Foreign exceptions pass through."""

    # Any: a reply's shape is the command's own
    async def send(self, key: str, *command: Argument) -> Any:
        """Run a command on the server that keeps `key`."""
        ...

    async def aclose(self) -> None: ...


class OneNode:
    """A server that keeps all keys."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def send(self, key: str, *command: Argument) -> Any:  # Any: see Nodes
        return await self._redis.execute_command(*command)

    async def aclose(self) -> None:
        await self._redis.aclose()


class RedisClient:
    """Every verb raises `PagesDown`, after `timeout_s` at the latest."""

    def __init__(self, nodes: Nodes, timeout_s: float) -> None:
        self._nodes = nodes
        self._timeout_s = timeout_s

    # Any: a reply's shape is the command's own
    async def call(self, key: str, *command: Argument) -> Any:
        """Run a command on the server that keeps `key`."""
        async with self._answered():
            return await self._nodes.send(key, *command)

    async def run(self, script: Script, keys: Sequence[str], *arguments: Argument) -> Any:
        """Run a script over keys of one hash tag."""
        parts = (len(keys), *keys, *arguments)
        async with self._answered():
            try:
                return await self._nodes.send(keys[0], "EVALSHA", script.digest, *parts)
            except NoScriptError:  # EVAL loads it too, and on this very node: SCRIPT LOAD would need all of them up
                return await self._nodes.send(keys[0], "EVAL", script.text, *parts)

    async def aclose(self) -> None:
        await self._nodes.aclose()

    @asynccontextmanager
    async def _answered(self) -> AsyncIterator[None]:
        task = asyncio.current_task()
        assert task is not None, "a verb is awaited in a task"
        cancelled = task.cancelling()
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except (RedisError, OSError) as exc:  # OSError: asyncio's TimeoutError is one
            raise PagesDown(f"Redis does not answer: {type(exc).__name__}: {exc}") from exc
        finally:
            # redis-py sends under `asyncio.wait_for`, which before Python 3.12 may lose a cancellation.
            if task.cancelling() > cancelled:
                raise asyncio.CancelledError
