"""Embedded shards start on free ports, come back when killed, and leave nothing behind."""

import asyncio
import os
import signal
import socket
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from redis.asyncio import RedisCluster

from kvplane.directory import DirectorySettings, EmbeddedShards, ShardsDown, open_pages, seal
from kvplane.directory.wire import Checkpoint, Load

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
