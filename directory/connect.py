"""Where the pages are: settings, and a URL opened."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from redis.asyncio import Connection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from .errors import BadUrl
from .pages import Pages
from .redis_client import RedisClient
from .redis_cluster import ClusterNodes
from .redis_node import Node, OneNode
from .redis_pages import RedisPages

_SCHEMES = {"redis": False, "rediss": False, "redis+cluster": True, "rediss+cluster": True}
_DEFAULT_PORT = 6379
_ESCAPES = "in a password of a directory URL write / as %2F, ? as %3F, # as %23, @ as %40, [ as %5B and ] as %5D"
_VERBS = 48  # connections to one node besides those that wait for entries, one a shard at most


class DirectorySettings(BaseModel):
    """How to reach the directory, and how it is laid out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: SecretStr | None = Field(
        default=None,
        description="the Redis to use, or env:NAME or file:/path that say it; none: embedded shards are started",
    )
    shards: int = Field(default=16, ge=1, le=100, description="logical shards; the same for all who share a directory")
    lease_s: float = Field(default=60.0, gt=0, description="how long the page of a silent holder is kept")
    mirror_bytes: int = Field(
        default=4 << 30, ge=1, description="memory that a router's mirror may take when every replica is full"
    )
    connect_timeout_s: float = Field(default=1.0, gt=0)
    timeout_s: float = Field(default=2.0, ge=1.0, description="the longest wait for one answer")


@asynccontextmanager
async def open_pages(url: str, settings: DirectorySettings) -> AsyncIterator[Pages]:
    """Pages in the Redis that a URL names; a Cluster's URL may list several hosts. Raises `BadUrl`.

    It opens even while Redis is down: then verbs raise `PagesDown` until it is back.
    """
    async with RedisPages(_client(url, settings), settings.shards, settings.lease_s) as pages:
        yield pages


@asynccontextmanager
async def open_client(url: str, settings: DirectorySettings) -> AsyncIterator[RedisClient]:
    """The bare client of the Redis that a URL names, for what is no page. Raises `BadUrl`."""
    client = _client(url, settings)
    try:
        yield client
    finally:
        await client.aclose()


def resolve_url(url: str) -> str:
    """A Redis' URL, which may stand in an environment variable (`env:NAME`) or a file (`file:/path`), as passwords do.

    Any other URL is given back as it is. Raises `BadUrl`.
    """
    kind, _, where = url.partition(":")
    if kind == "env":
        found = os.environ.get(where, "")
    elif kind == "file":
        try:
            found = Path(where).read_text().strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise BadUrl(f"the file that should say a Redis' URL cannot be read: {exc}") from exc
    else:
        return url
    if not found:
        raise BadUrl(f"a Redis' URL should stand in {url}, which is empty or not set on this machine")
    return found


def check_url(url: str) -> None:
    """Raises `BadUrl` for what names no Redis."""
    _servers(url)


def _client(url: str, settings: DirectorySettings) -> RedisClient:
    scheme, hosts = _servers(resolve_url(url))
    options: dict[str, Any] = {  # Any: redis-py's own connection options
        **hosts[0],
        "protocol": 2,  # the reply shapes that are parsed here
        "decode_responses": False,
        "driver_info": None,  # two commands a connection, which users may not run and Redis 7.0 does not know
        "socket_connect_timeout": settings.connect_timeout_s,
        "socket_timeout": None,  # a verb bounds all of its waits at once
        "retry": Retry(NoBackoff(), 0),  # the caller decides what a failure means, and when to try again
    }
    kind: type[Connection] = options.pop("connection_class", Connection)

    def connect(host: str, port: int) -> Node:
        return Node(lambda: kind(**(options | {"host": host, "port": port})), settings.shards + _VERBS)

    try:
        kind(**options)
    except TypeError as exc:
        raise BadUrl(f"a directory URL may carry redis-py's connection options and no others: {exc}") from exc
    addresses = [(host["host"], host.get("port", _DEFAULT_PORT)) for host in hosts]
    nodes = ClusterNodes(addresses, connect) if _SCHEMES[scheme] else OneNode(connect(*addresses[0]), *addresses[0])
    return RedisClient(nodes, settings.timeout_s)


def _servers(url: str) -> tuple[str, list[dict[str, Any]]]:  # Any: redis-py's own connection options
    """The scheme, and redis-py's options for each host named between `@` and `/`, separated by commas."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise BadUrl(_ESCAPES) from None  # its words may hold the password
    if parts.scheme not in _SCHEMES:
        raise BadUrl(f"a directory URL begins with one of {', '.join(_SCHEMES)}; got {parts.scheme or 'no scheme'!r}")
    plain = parts.scheme.partition("+")[0]
    if "@" in url.partition("://")[2].removeprefix(parts.netloc):
        raise BadUrl(_ESCAPES)
    login, at, addresses = parts.netloc.rpartition("@")
    if not all(addresses.split(",")):
        raise BadUrl(f"a directory URL names a host: {plain}://[user:password@]host:port; got {addresses!r}")
    if "," in addresses and not _SCHEMES[parts.scheme]:
        raise BadUrl(f"{parts.scheme} names one host; for several use {plain}+cluster; got {addresses!r}")
    if _SCHEMES[parts.scheme] and parts.path.strip("/") not in ("", "0"):
        raise BadUrl(f"a cluster has database 0 only; got {parts.path!r}")
    try:
        hosts = [
            parse_url(parts._replace(scheme=plain, netloc=f"{login}{at}{address}").geturl())
            for address in addresses.split(",")
        ]
    except ValueError as exc:
        raise BadUrl(f"a directory URL is {plain}://[user:password@]host:port; got host {addresses!r}: {exc}") from exc
    return parts.scheme, hosts
