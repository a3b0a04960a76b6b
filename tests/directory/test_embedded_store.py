"""The embedded store keeps what it acknowledged, whoever dies, and lets in whom it knows."""

import asyncio
import os
import signal
import socket
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from kvplane.directory import ShardsDown
from kvplane.directory.embedded_store import EmbeddedStore

Until = Callable[[Callable[[], bool]], Awaitable[None]]

USAGE = "{kvplane:usage:1}"


def ask(url: str, *command: str) -> Any:  # Any: a reply's shape is the command's own
    with Redis.from_url(url, decode_responses=True, protocol=2, socket_timeout=5.0) as client:
        return client.execute_command(*command)


def answers(url: str) -> bool:
    try:
        return bool(ask(url, "PING"))
    except (RedisError, OSError):
        return False


async def test_it_is_one_server_that_acknowledges_what_is_on_disk(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path) as store:
        settings = ask(store.url, "CONFIG", "GET", "appendonly", "appendfsync", "maxmemory-policy")
        with pytest.raises(RedisError, match="cluster support disabled"):
            ask(store.url, "CLUSTER", "INFO")

    assert set(zip(settings[::2], settings[1::2], strict=True)) == {
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("maxmemory-policy", "noeviction"),
    }


async def test_a_killed_server_comes_back_on_its_port_with_all_it_had(tmp_path: Path, until: Until) -> None:
    async with EmbeddedStore(tmp_path) as store:
        url, old = store.url, store.health
        for number in range(100):
            ask(url, "SET", f"key-{number}", "kept")
        assert old.pid is not None
        os.kill(old.pid, signal.SIGKILL)
        await until(lambda: store.health.pid not in (None, old.pid) and answers(url))
        kept = ask(url, "DBSIZE")

    assert kept == 100
    assert store.health.port == old.port


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's own")
async def test_what_was_acknowledged_outlives_a_killed_owner(tmp_path: Path) -> None:
    program = """
        import asyncio, pathlib, sys
        from kvplane.directory.embedded_store import EmbeddedStore

        async def main():
            async with EmbeddedStore(pathlib.Path(sys.argv[1])) as store:
                print(store.url, flush=True)
                await asyncio.sleep(60)

        asyncio.run(main())
    """
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(program), str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    url = (await owner.stdout.readline()).decode().strip()
    ask(url, "SET", "key", "kept")
    owner.kill()
    await owner.wait()

    async with EmbeddedStore(tmp_path) as store:
        assert ask(store.url, "GET", "key") == "kept"
        assert password_of(store.url) == password_of(url)


async def test_its_port_stays_while_it_is_free_and_its_data_moves_if_it_is_not(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path) as store:
        first = store.url
        ask(first, "SET", "key", "kept")
    async with EmbeddedStore(tmp_path) as store:
        second = store.url
    with socket.create_server(("127.0.0.1", store.health.port)):
        async with EmbeddedStore(tmp_path) as store:
            third, kept = store.url, ask(store.url, "GET", "key")

    assert first == second
    assert first != third
    assert kept == "kept"


async def test_each_role_has_a_url_and_nobody_else_comes_in(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path) as store:
        entered = ask(store.url_of("accounts-replica"), "HSETNX", USAGE, "decision", "1")
        with pytest.raises(NoPermissionError):
            ask(store.url_of("accounts-replica"), "DEL", USAGE)
        with pytest.raises(NoPermissionError):
            ask(store.url_of("accounts-router"), "HSET", "{kvplane:accounts}:keys", "a", "b")
        with pytest.raises(AuthenticationError):
            ask(f"redis://127.0.0.1:{store.health.port}", "PING")

    assert entered == 1


async def test_a_folder_serves_one_owner(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path):
        with pytest.raises(ShardsDown, match="serves another process"):
            async with EmbeddedStore(tmp_path):
                pass


async def test_data_that_cannot_be_read_is_said_and_left_as_it_is(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path) as store:
        ask(store.url, "SET", "key", "kept")
    [log] = (tmp_path / "data" / "appendonlydir").glob("*.incr.aof")
    spoilt = b"spoilt" + log.read_bytes()
    log.write_bytes(spoilt)

    with pytest.raises(ShardsDown, match="Bad file format"):
        async with EmbeddedStore(tmp_path):
            pass
    assert log.read_bytes() == spoilt


def password_of(url: str) -> str:
    return urlsplit(url).password or ""
