"""Each implementation of the accounts' contracts, empty; servers are started once and only when asked for."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from kvplane.controlplane.accounts.redis_accounts import RedisAccounts
from kvplane.directory import DirectorySettings, open_client
from kvplane.tests.servers import Server, eventually, redis_server

from .stores import Store, in_memory


@pytest.fixture(scope="session")
def accounts_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("accounts")) as running:
        yield running


@pytest.fixture(scope="session")
def accounts_redis_7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    binary = redis_server()
    if binary is None:
        pytest.skip("no redis-server of 7.0 or later is on the path")
    with Server(tmp_path_factory.mktemp("accounts-redis"), binary=binary) as running:
        yield running


@pytest.fixture(scope="session")
def accounts_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A cluster of one node: it refuses scripts whose keys have several slots as well as three do."""
    server = Server(tmp_path_factory.mktemp("accounts-cluster"), "--cluster-enabled", "yes")
    server.options += ("--cluster-port", str(server.bus_port))
    with server as running:
        running.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        eventually(lambda: "cluster_state:ok" in str(running.ask("CLUSTER", "INFO")))
        yield running


@pytest.fixture(params=["memory", "accounts_server", "accounts_redis_7", "accounts_cluster"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """To add an implementation, add a line here."""
    match request.param:
        case "memory":
            yield in_memory()
        case name:
            server: Server = request.getfixturevalue(name)
            server.ask("FLUSHALL")
            scheme = "redis+cluster" if name == "accounts_cluster" else "redis"
            async with open_client(server.url.replace("redis", scheme), DirectorySettings()) as client:
                yield Store(RedisAccounts(client), time.monotonic, asyncio.sleep)
