"""A Redis or a Redis Cluster behind two verbs: bounded in time, its failures told in the directory's own words."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from .errors import PagesDown

Argument = str | bytes | int


class Script:
    """A Lua script, sent by its digest and in full only where it is not known yet."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text()
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class RedisClient:
    """One server. Every verb raises `PagesDown`, after `timeout_s` at the latest."""

    def __init__(self, redis: Redis, timeout_s: float) -> None:
        self._redis = redis
        self._timeout_s = timeout_s

    # Any: a reply's shape is the command's own
    async def call(self, key: str, *command: Argument) -> Any:
        """Run a command on the server that keeps `key`."""
        async with self._answered():
            return await self._send(key, *command)

    async def run(self, script: Script, keys: Sequence[str], *arguments: Argument) -> Any:
        """Run a script over keys of one hash tag."""
        parts = (len(keys), *keys, *arguments)
        async with self._answered():
            try:
                return await self._send(keys[0], "EVALSHA", script.digest, *parts)
            except NoScriptError:  # EVAL loads it too, and on this very node: SCRIPT LOAD would need all of them up
                return await self._send(keys[0], "EVAL", script.text, *parts)

    async def aclose(self) -> None:
        await self._redis.aclose()

    async def _send(self, _key: str, *command: Argument) -> Any:
        return await self._redis.execute_command(*command)

    @asynccontextmanager
    async def _answered(self) -> AsyncIterator[None]:
        task = asyncio.current_task()
        assert task is not None, "a verb is awaited in a task"
        cancelled = task.cancelling()
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except (RedisError, RedisClusterException, OSError) as exc:  # OSError: asyncio's TimeoutError is one
            raise PagesDown(f"Redis does not answer: {type(exc).__name__}: {exc}") from exc
        finally:
            # redis-py sends under `asyncio.wait_for`, which before Python 3.12 may lose a cancellation.
            if task.cancelling() > cancelled:
                raise asyncio.CancelledError


class RedisClusterClient(RedisClient):
    """A Cluster. A dead node costs only the keys it keeps."""

    def __init__(self, redis: RedisCluster, timeout_s: float) -> None:
        super().__init__(redis, timeout_s)
        self._cluster = redis

    async def aclose(self) -> None:
        await self._cluster.aclose()
        # After a failed command the client counts as not initialised, and its own aclose leaves connections open.
        await self._cluster.nodes_manager.aclose()

    async def _send(self, key: str, *command: Argument) -> Any:
        await self._cluster.initialize()
        # Without a target the client asks its default node, which may be down, where a XREAD has its keys.
        return await self._cluster.execute_command(*command, target_nodes=self._cluster.get_node_from_key(key))
