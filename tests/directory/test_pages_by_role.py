"""The suite of pages once more, each page written by its replica's own user and read by a router's."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from redis.crc import key_slot

from kvplane.directory import Appended, DirectorySettings, HolderId, Pages, PageSize, Sealed, open_pages
from kvplane.directory.roles import User, user_of
from kvplane.tests.clusters import Cluster, Reshard
from kvplane.tests.directory.test_pages import *  # noqa: F403 - every test of it, over the `pages` below
from kvplane.tests.messages import batch, keys_of, whole
from kvplane.tests.servers import Server, redis_server

PASSWORD = "no secret: it guards a test"


@dataclass
class ByRole:
    """Pages each written by its replica's own user, and read by a router's."""

    url: str
    nodes: Sequence[Server]
    open: AsyncExitStack

    async def append(self, batch: Sealed) -> Appended:
        return await (await self._writer(batch.holder)).append(batch)

    async def checkpoint(self, checkpoint: Sealed) -> None:
        await (await self._writer(checkpoint.holder)).checkpoint(checkpoint)

    async def follow(self, holder: HolderId) -> AsyncGenerator[Sealed, None]:
        async for sealed in (await self._pages(user_of("router"))).follow(holder):
            yield sealed

    async def drop(self, holder: HolderId) -> None:
        await (await self._writer(holder)).drop(holder)

    async def measure(self, holder: HolderId) -> PageSize:
        return await (await self._pages(user_of("router"))).measure(holder)

    async def _writer(self, holder: HolderId) -> Pages:
        return await self._pages(user_of("replica", keys_of(holder)))

    async def _pages(self, user: User) -> Pages:
        for node in self.nodes:
            node.ask("ACL", "SETUSER", user.name, *user.words(PASSWORD))
        url = self.url.replace("://", f"://{user.name}:{PASSWORD}@")
        return await self.open.enter_async_context(open_pages(url, DirectorySettings()))


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    binary = redis_server()
    if binary is None:
        pytest.skip("no redis-server of 7.0 or later is on the path")
    with Server(tmp_path_factory.mktemp("redis"), binary=binary) as running:
        yield running


@pytest.fixture(params=["valkey", "redis", "running_cluster"])
async def pages(request: pytest.FixtureRequest) -> AsyncIterator[Pages]:
    servers: Server | Cluster = request.getfixturevalue(request.param)
    nodes = servers.nodes if isinstance(servers, Cluster) else [servers]
    for node in nodes:
        node.ask("SCRIPT", "FLUSH")
    async with AsyncExitStack() as stack:
        yield ByRole(servers.url, nodes, stack)


async def test_a_replica_and_a_router_follow_a_page_whose_slot_is_on_its_way(
    cluster: Cluster, holder: HolderId
) -> None:
    keys = keys_of(holder)
    source = cluster.keeper(keys.tag)
    moving = Reshard(key_slot(keys.tag.encode()), source, cluster.others(source)[0])
    async with AsyncExitStack() as stack:
        pages = ByRole(cluster.url, cluster.nodes, stack)
        await pages.checkpoint(whole(holder, 0))
        await pages.append(batch(holder, 1))
        moving.begin()
        moving.move(*keys.all)
        appended = await pages.append(batch(holder, 2))
        messages = pages.follow(holder)
        seen = [await anext(messages) for _ in range(3)]
        await messages.aclose()
    left = moving.left()
    moving.end(cluster.others(source))

    assert not set(keys.all) & set(left)
    assert not appended.lost
    assert seen == [whole(holder, 0), batch(holder, 1), batch(holder, 2)]
