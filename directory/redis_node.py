"""One Redis server over a bounded number of connections, made when needed and made again when broken."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import hiredis
from redis.asyncio import Connection
from redis.exceptions import ReadOnlyError

Argument = str | bytes | int


class Nodes(Protocol):
    """The servers there are: one, or those of a cluster. Foreign exceptions pass through."""

    # Any: a reply's shape is the command's own
    async def send(self, key: str, *command: Argument) -> Any:
        """Run a command on the server that keeps `key`; replies are as the server words them."""
        ...

    async def where(self, key: str) -> str:
        """The host and port of the server that keeps `key`."""
        ...

    async def aclose(self) -> None: ...


class Node:
    """Waits for a connection where all are taken; whoever awaits a reply bounds how long.

    Commands are packed and replies parsed by hiredis directly, for redis-py's client and pool cost several times as
    much as a heartbeat may.
    """

    def __init__(self, connect: Callable[[], Connection], most: int) -> None:
        self._connect = connect
        self._free = asyncio.Semaphore(most)
        self._idle: list[Connection] = []
        self._all: list[Connection] = []

    async def send(self, *command: Argument) -> Any:  # Any: see Nodes
        return await self._exchange(command)

    async def send_asking(self, *command: Argument) -> Any:  # Any: see Nodes
        """Run a command for a slot that is still on its way to this server."""
        return await self._exchange(("ASKING",), command)

    async def reconnect(self) -> None:
        """Let every connection that is not in use be made again, where the host's name may lead elsewhere."""
        for connection in list(self._idle):
            await connection.disconnect(nowait=True)

    async def aclose(self) -> None:
        for connection in self._all:
            await connection.disconnect(nowait=True)

    async def _exchange(self, *commands: tuple[Argument, ...]) -> Any:  # Any: see Nodes
        """Run commands over one connection; the last one's reply. What ends it half way closes the connection."""
        async with self._free:
            connection = self._idle.pop() if self._idle else self._made()
            try:
                if connection.is_connected and await connection.can_read():  # closed by the server, or out of step
                    await connection.disconnect(nowait=True)
                for command in commands:
                    packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub allows one part only
                    await connection.send_packed_command(packed)  # connects where need be
                    reply = await connection.read_response()
                return reply
            finally:
                self._idle.append(connection)

    def _made(self) -> Connection:
        connection = self._connect()
        self._all.append(connection)
        return connection


class OneNode:
    """A server that keeps all keys."""

    def __init__(self, node: Node, host: str, port: int) -> None:
        self._node = node
        self._address = f"{host}:{port}"

    async def where(self, key: str) -> str:
        return self._address

    async def send(self, key: str, *command: Argument) -> Any:  # Any: see Nodes
        try:
            return await self._node.send(*command)
        except ReadOnlyError:  # a primary that was demoted; its name may have gone to another
            await self._node.reconnect()
            raise

    async def aclose(self) -> None:
        await self._node.aclose()
