"""A folder of embedded servers: it serves one owner, and keeps their ports."""

import fcntl
import json
import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import ShardsDown
from .shard_server import HOST

# Below the ports that systems hand out by themselves, so that a server finds its own free again; between those of
# Ray's workers and those on which Serve's replicas listen behind HAProxy.
_PORTS = range(20000, 30000)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder, made if need be: two owners would wipe each other's data. Raises `ShardsDown` if one has it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ShardsDown(f"{folder} serves another process; stop it, or name another folder") from exc
        yield


def saved_ports(folder: Path, servers: int, each: int) -> list[tuple[int, ...]]:
    """The ports these servers had, if all of them are free; else none."""
    path = folder / "ports.json"
    if not path.exists():
        return []
    ports = [tuple(map(int, own)) for own in json.loads(path.read_text())]
    free = all(_is_free(port) for own in ports for port in own)
    return ports if free and [len(own) for own in ports] == [each] * servers else []


def save_ports(folder: Path, ports: Sequence[Sequence[int]]) -> None:
    (folder / "ports.json").write_text(json.dumps(ports))


def free_ports(servers: int, each: int) -> list[tuple[int, ...]]:
    """Ports for each server. The draw is random so that two starts seldom collide."""
    drawn = random.SystemRandom().sample(_PORTS, len(_PORTS))
    free = (port for port in drawn if _is_free(port))
    return [tuple(next(free) for _ in range(each)) for _ in range(servers)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do, so that connections of an earlier one that linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
