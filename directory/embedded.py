"""A Redis Cluster of its own, for whoever has configured none: valkey servers on loopback, supervised."""

import asyncio
import logging
import shutil
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from redis.asyncio import Redis
from redis.exceptions import RedisError

from .backoff import delays
from .errors import ShardsDown
from .ids import HolderId
from .redis_keys import page_keys
from .roles import user_of
from .server_folder import free_ports, locked, save_ports, saved_ports
from .server_users import ADMIN, ServerUsers
from .shard_server import HOST, ShardHealth, ShardServer, kept

log = logging.getLogger(__name__)

_SLOTS = 16384
_FORM_S = 15.0
_GRANT_S = 5.0


class EmbeddedShards:
    """Open it with `async with`: the servers run until it closes, or die with the thread that opened it.

    The folder keeps their ports, users and logs; while they are free, the same ports are taken again. Opening takes
    about two seconds and raises `ShardsDown`. Its URLs carry passwords.
    """

    def __init__(self, folder: Path, shards: int = 3) -> None:
        self._folder = folder.absolute()
        self._shards = shards
        self._users = ServerUsers(self._folder, ["router"])
        self._servers: Sequence[ShardServer] = ()
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            opening.enter_context(locked(self._folder))
            self._users.open()
            self._servers = await self._start(opening)
            await opening.enter_async_context(kept(self._servers))
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

    @property
    def router_url(self) -> str:
        """For whoever reads all pages and writes none."""
        return self._url(user_of("router").name)

    async def grant_replica(self, holder: HolderId, logical_shards: int) -> str:
        """The URL for a replica, which may write its own page and read no other. Again and again the same.

        A server that is down learns of it when it starts.
        """
        user, password = self._users.grant(page_keys(holder, logical_shards))
        await self._tell("ACL", "SETUSER", user.name, *user.words(password))
        return self._url(user.name)

    async def revoke_replica(self, holder: HolderId, logical_shards: int) -> None:
        """Shut a replica out, and close its connections; its page stays until its lease ends."""
        user = self._users.revoke(page_keys(holder, logical_shards))
        await self._tell("ACL", "DELUSER", user.name)

    @property
    def pids(self) -> list[int]:
        """The processes that run, in the order of their ports in `url`."""
        return [health.pid for health in self.health() if health.pid is not None]

    def health(self) -> list[ShardHealth]:
        """One entry for each shard, in the order of `url`."""
        return [server.health for server in self._servers]

    def _url(self, user: str) -> str:
        servers = ",".join(f"{HOST}:{server.port}" for server in self._servers)
        return f"redis+cluster://{self._users.login(user)}{servers}"

    async def _tell(self, *command: str) -> None:
        await asyncio.gather(*(_told(server, *command) for server in self._servers))

    async def _start(self, opening: AsyncExitStack) -> Sequence[ShardServer]:
        """The cluster this folder knows, if its ports are free and it heals; else a new one."""
        ports = saved_ports(self._folder, self._shards, each=2)
        if ports:
            try:
                return await self._run(opening, ports, form=False)
            except (ShardsDown, TimeoutError) as exc:
                log.warning("the shards of %s are formed anew: %s", self._folder, exc)
        for folder in self._folder.glob("shard-*"):
            shutil.rmtree(folder)
        ports = free_ports(self._shards, each=2)
        try:
            servers = await self._run(opening, ports, form=True)
        except TimeoutError as exc:
            raise ShardsDown(f"the shards in {self._folder} formed no cluster in {_FORM_S} s") from exc
        save_ports(self._folder, ports)
        return servers

    async def _run(
        self, opening: AsyncExitStack, ports: Sequence[tuple[int, ...]], *, form: bool
    ) -> Sequence[ShardServer]:
        servers = [
            ShardServer(self._folder / f"shard-{number}", port, _node(bus_port), self._users)
            for number, (port, bus_port) in enumerate(ports)
        ]
        async with AsyncExitStack() as starting:
            for server in servers:
                starting.push_async_callback(server.stop)
            for server in servers:
                await server.start()
            async with asyncio.timeout(_FORM_S):
                await _form(servers, ports, form=form)
            opening.push_async_exit(starting.pop_all())
        return servers


def _node(bus_port: int) -> dict[str, str | int]:
    return {
        "cluster-port": bus_port,
        "cluster-announce-ip": HOST,
        "cluster-enabled": "yes",
        "cluster-config-file": "nodes.conf",
        "cluster-node-timeout": 2000,
        "cluster-require-full-coverage": "no",  # a dead shard costs its own pages only
        "save": "",
        "appendonly": "no",  # whatever a directory loses, the replicas write again
    }


async def _form(servers: Sequence[ShardServer], ports: Sequence[tuple[int, ...]], *, form: bool) -> None:
    """Give each node its slots and make them meet, unless they know each other; wait until all agree."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.client()) for server in servers]
        bounds = [_SLOTS * number // len(clients) for number in range(len(clients) + 1)]
        for number, client in enumerate(clients) if form else ():
            await client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            await client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for port, bus_port in ports[1:] if form else ():
            await clients[0].execute_command("CLUSTER MEET", HOST, port, bus_port)
        for client in clients:
            while not await _whole(client, len(clients)):
                await asyncio.sleep(0.05)


async def _whole(client: Redis, shards: int) -> bool:
    info = await client.cluster("INFO")
    wanted = {"cluster_state": "ok", "cluster_slots_ok": str(_SLOTS), "cluster_size": str(shards)}
    return all(info.get(name) == value for name, value in wanted.items())


async def _told(server: ShardServer, *command: str) -> None:
    """Tried again for a while: a server that just starts has read the file of users, perhaps before this change."""
    try:
        async with asyncio.timeout(_GRANT_S), server.client() as client:
            for delay_s in delays(0.05, 0.5):
                try:
                    await client.execute_command(*command)
                    return
                except (RedisError, OSError):
                    await asyncio.sleep(delay_s)
    except TimeoutError:
        log.warning("the shard on port %d is down; it reads its users when it starts", server.port)
