"""Gives whoever starts its identity, its keys and the stores' addresses; keeps the embedded servers running."""

import asyncio
import os
import secrets
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import ray
from ray import serve

from ..directory import DirectorySettings, EmbeddedShards, EmbeddedStore, HolderId, Keyring, holder_id
from ..directory.departed import Departed
from ..directory.epochs import NameEpochs
from ..workers import Lifetime, Registration
from .accounts import TenantKeys, parse_tenants, take_in, write_example
from .accounts.settings import AccountsSettings, open_accounts
from .errors import ConfigError
from .naming_processes import ServeProcesses
from .operator import ACCOUNTS_FILE, MASTER_FILE, read_master, write_secret
from .rotation import Rotation

_MASTER_BYTES = 32


class RouterGrant(msgspec.Struct, frozen=True):
    """What a router is given when it starts. Secrets, so it is never printed."""

    master: bytes
    directory_url: str
    accounts_url: str
    usage_url: str
    epochs: NameEpochs = NameEpochs()

    def __repr__(self) -> str:
        return "RouterGrant(...)"


class Registrar:
    """One per application, on the head node, where the state folder is."""

    async def __init__(  # type: ignore[misc]  # Serve awaits constructors
        self, state: Path, tenants: Path, directory: DirectorySettings, accounts: AccountsSettings
    ) -> None:
        self._tenants = tenants
        self._accounts = accounts
        self._accounts_url = accounts.url.get_secret_value() if accounts.url else ""  # for routers
        self._master = await asyncio.to_thread(_prepare_state, state)
        self._keyring = Keyring(self._master)
        self._directory = directory
        self._url = directory.url.get_secret_value() if directory.url else None
        self._shards: EmbeddedShards | None = None
        self._last_epoch = 0
        self._lifetime = Lifetime()
        await self._lifetime.open(lambda stack, tasks: self._open(state, stack, tasks))

    async def register(self, replica: str, node: str) -> Registration:
        """A replica's epoch and keys. Epochs rise with time, so that a later life outranks an earlier one.

        Raises `ConfigError` for a replica on another node than embedded servers, which listen on loopback.
        """
        if node != ray.get_runtime_context().get_node_id() and (self._shards is not None or not self._accounts.url):
            raise ConfigError(
                "embedded servers serve one node; for several set directory.url and accounts.url to what they all reach"
            )
        self._last_epoch = max(self._last_epoch + 1, time.time_ns() // 1000)
        epoch = self._last_epoch
        mac_key = self._keyring.mac_key(holder_id(replica), epoch)
        url = await self._replica_url(holder_id(replica))
        ticket_key, name_epoch = self._keyring.ticket_key(), self._rotation.epochs.present
        return Registration(epoch, mac_key, ticket_key, url, self._usage_url, name_epoch)

    async def grant(self) -> RouterGrant:
        """What a router needs to derive keys, read the directory and know the tenants."""
        return RouterGrant(self._master, self._address(), self._accounts_url, self._usage_url, self._rotation.epochs)

    async def status(self) -> dict[str, object]:
        """Where directory and accounts are, and how the shards do where they are embedded."""
        shards = [msgspec.to_builtins(shard) for shard in self._shards.health()] if self._shards else []
        return {
            "directory": _without_password(self._address()),
            "accounts": _without_password(self._accounts_url),
            "shards": shards,
            "name_epoch": self._rotation.epochs.present,
            "ending_epoch": self._rotation.epochs.ending,
            "pid": os.getpid(),
        }

    async def check_health(self) -> None:
        """Serve replaces a registrar whose shards cannot be kept running."""
        self._lifetime.check()

    async def __del__(self) -> None:
        await self._lifetime.close()

    async def _open(self, state: Path, stack: AsyncExitStack, tasks: asyncio.TaskGroup) -> None:
        if self._url is None:
            self._shards = await stack.enter_async_context(EmbeddedShards(state / "directory"))
            tasks.create_task(Departed(self._shards, self._directory).run())
        if not self._accounts_url:
            store = await stack.enter_async_context(EmbeddedStore(state / "accounts"))
            self._accounts_url, operators_url = store.url_of("accounts-router"), store.url_of("accounts-operator")
            self._usage_url = store.url_of("accounts-replica")
        else:
            self._usage_url = operators_url = self._accounts_url
        await asyncio.to_thread(write_secret, state / ACCOUNTS_FILE, operators_url)
        accounts = await stack.enter_async_context(open_accounts(operators_url, self._accounts))
        if await accounts.revision() == 0:
            await take_in(accounts, await asyncio.to_thread(_first_tenants, self._tenants))
        processes = ServeProcesses(serve.get_replica_context().app_name)
        self._rotation = Rotation(accounts, processes, time.monotonic)
        self._rotation.epochs = await accounts.epochs()
        tasks.create_task(self._rotation.run())

    async def _replica_url(self, holder: HolderId) -> str:
        """Embedded shards give each replica a user that may write its own page and nothing else."""
        if self._shards is None:
            return self._address()
        return await self._shards.grant_replica(holder, self._directory.shards)

    def _address(self) -> str:
        """For routers."""
        if self._url is not None:
            return self._url
        assert self._shards is not None, "without a URL the shards are embedded"
        return self._shards.router_url


def _prepare_state(state: Path) -> bytes:
    """Make what a first start lacks, and read the master key."""
    path = state / MASTER_FILE
    if not path.exists():  # whole or not at all: an empty key would stop every later start
        write_secret(path, secrets.token_hex(_MASTER_BYTES))
    return read_master(state)


def _first_tenants(path: Path) -> Sequence[TenantKeys]:
    if not path.exists():
        write_example(path)
    return parse_tenants(path.read_text(), str(path))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
