"""A Redis of its own for what cannot be rebuilt: one valkey server on loopback whose file has all it acknowledged."""

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from .errors import ShardsDown
from .roles import Role, user_of
from .server_folder import free_ports, locked, save_ports, saved_ports
from .server_users import ADMIN, ServerUsers
from .shard_server import HOST, ShardHealth, ShardServer, kept

log = logging.getLogger(__name__)

_LOAD_S = 300.0  # a long file takes its time
_OPTIONS: Mapping[str, str | int] = {
    "save": "",
    "appendonly": "yes",
    "appendfsync": "always",  # the answer comes after the disk's
    "maxmemory-policy": "noeviction",
}


class EmbeddedStore:
    """Open it with `async with`: the server runs until it closes, or dies with the thread that opened it.

    The folder keeps its data, port, users and log. Raises `ShardsDown`. Its URLs carry passwords.
    """

    def __init__(self, folder: Path, name: str = "accounts") -> None:
        self._folder = folder.absolute()
        self._name = name
        self._users = ServerUsers(self._folder, ["accounts-router", "accounts-replica", "accounts-operator"])
        self._server: ShardServer | None = None
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            opening.enter_context(locked(self._folder))
            self._users.open()
            self._server = await self._start(opening)
            await opening.enter_async_context(kept([self._server]))
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.__aexit__(kind, error, trace)

    @property
    def url(self) -> str:
        """For whoever may do all there is."""
        return self._url(ADMIN.name)

    def url_of(self, role: Role) -> str:
        """For a role of the accounts."""
        return self._url(user_of(role).name)

    @property
    def health(self) -> ShardHealth:
        assert self._server is not None, "it is open"
        return self._server.health

    def _url(self, user: str) -> str:
        return f"redis://{self._users.login(user)}{HOST}:{self.health.port}"

    async def _start(self, opening: AsyncExitStack) -> ShardServer:
        """On the port this folder knows, if it is free; else on another."""
        [[port]] = saved_ports(self._folder, 1, each=1) or free_ports(1, each=1)
        try:
            return await self._run(opening, port)
        except ShardsDown as exc:
            log.warning("the %s server is tried on another port: %s", self._name, exc)
        [[port]] = free_ports(1, each=1)
        return await self._run(opening, port)

    async def _run(self, opening: AsyncExitStack, port: int) -> ShardServer:
        server = ShardServer(self._folder / "data", port, _OPTIONS, self._users)
        async with AsyncExitStack() as starting:
            starting.push_async_callback(server.stop)
            await server.start(_LOAD_S)
            save_ports(self._folder, [[port]])
            opening.push_async_exit(starting.pop_all())
        return server
