"""Gives whoever starts its identity, its keys and the directory's address; keeps the embedded shards running."""

import asyncio
import os
import secrets
import time
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import ray

from ..directory import EmbeddedShards, Keyring, holder_id
from ..workers import Lifetime, Registration
from .errors import ConfigError
from .operator import MASTER_FILE, read_master
from .tenants import write_example

_MASTER_BYTES = 32


class RouterGrant(msgspec.Struct, frozen=True):
    """What a router is given when it starts. Secrets, so it is never printed."""

    master: bytes
    directory_url: str
    tenants_yaml: str

    def __repr__(self) -> str:
        return "RouterGrant(...)"


class Registrar:
    """One per application, on the head node, where the state folder is."""

    async def __init__(  # type: ignore[misc]  # Serve awaits constructors
        self, state: Path, tenants: Path, directory_url: str | None
    ) -> None:
        self._tenants = tenants
        self._master = await asyncio.to_thread(_prepare_state, state, tenants)
        self._keyring = Keyring(self._master)
        self._url = directory_url
        self._shards: EmbeddedShards | None = None
        self._last_epoch = 0
        self._lifetime = Lifetime()
        await self._lifetime.open(lambda stack, _: self._open(state, stack))

    async def register(self, replica: str, node: str) -> Registration:
        """A replica's epoch and keys. Epochs rise with time, so that a later life outranks an earlier one.

        Raises `ConfigError` for a replica on another node than embedded shards, which listen on loopback.
        """
        if self._shards is not None and node != ray.get_runtime_context().get_node_id():
            raise ConfigError("embedded shards serve one node; for several set directory.url to a Redis they all reach")
        self._last_epoch = max(self._last_epoch + 1, time.time_ns() // 1000)
        epoch = self._last_epoch
        mac_key = self._keyring.mac_key(holder_id(replica), epoch)
        return Registration(epoch, mac_key, self._keyring.ticket_key(), self._address())

    async def grant(self) -> RouterGrant:
        """What a router needs to derive keys, read the directory and know the tenants."""
        text = await asyncio.to_thread(self._tenants.read_text)
        return RouterGrant(self._master, self._address(), text)

    async def status(self) -> dict[str, object]:
        """Where the directory is, and how its shards do where they are embedded."""
        shards = [msgspec.to_builtins(shard) for shard in self._shards.health()] if self._shards else []
        return {"directory": _without_password(self._address()), "shards": shards, "pid": os.getpid()}

    async def check_health(self) -> None:
        """Serve replaces a registrar whose shards cannot be kept running."""
        self._lifetime.check()

    async def __del__(self) -> None:
        await self._lifetime.close()

    async def _open(self, state: Path, stack: AsyncExitStack) -> None:
        if self._url is None:
            self._shards = await stack.enter_async_context(EmbeddedShards(state / "directory"))

    def _address(self) -> str:
        if self._url is not None:
            return self._url
        assert self._shards is not None, "without a URL the shards are embedded"
        return self._shards.url


def _prepare_state(state: Path, tenants: Path) -> bytes:
    """Make what a first start lacks, and read the master key."""
    if not tenants.exists():
        write_example(tenants)
    path = state / MASTER_FILE
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600)
        partial.write_text(secrets.token_hex(_MASTER_BYTES))
        partial.rename(path)  # whole or not at all: an empty key would stop every later start
    return read_master(state)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
