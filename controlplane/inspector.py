"""What an operator may ask of the directory, answered by one router with the help of all processes."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import msgspec

from ..directory import (
    LEVELS,
    Account,
    Domain,
    DomainKey,
    HolderId,
    Keyring,
    Pages,
    PagesDown,
    PageSize,
    Reading,
    domain_key,
    reading,
)
from ..workers import Capacity
from .config import Settings
from .directory_find import Finder, Query
from .directory_report import MirrorReport, Row, mirror_report, stats
from .directory_verify import Fleet, Mirrored, verify
from .errors import BadRequest
from .sight import Sight
from .tenants import label
from .tokens import Tokens

_READ_S = 3.0  # for one page: what is wanted of it was written before
_MEASURE_S = 5.0
_MEASURED_AT_ONCE = 8


class Application(Fleet, Protocol):
    """All processes, as an inspector asks them."""

    async def mirrors(self) -> Sequence[MirrorReport]: ...


@dataclass(frozen=True, slots=True)
class Inspector:
    """One per router: three questions to all, and this router's own part of each."""

    router: str
    settings: Settings
    sight: Sight
    pages: Pages
    keyring: Keyring
    domains: Callable[[], Collection[Domain]]
    tokens: Tokens
    capacity: Callable[[], Awaitable[Capacity]]
    fleet: Application
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def stats(self) -> Row:
        """Blocks and bytes by shard, replica, level and tenant; how every router's mirror does."""
        tags = {key.tag: tenant for tenant, key in self._keys().items()}
        sizes, mirrors = await self._sizes(), await self.fleet.mirrors()
        return stats(self.sight.holdings.tally(), self._live, sizes, tags, mirrors)

    async def find(self, body: bytes) -> Row:
        """Who holds how much of a prompt. Raises `BadRequest`, and `Overloaded` where no replica is ready."""
        try:
            query = msgspec.json.decode(body, type=Query)
        except msgspec.MsgspecError as exc:
            raise BadRequest(f"a query is a prompt as text or tokens, and perhaps a tenant: {exc}") from exc
        finder = Finder(self.tokens, await self.capacity(), self.sight.holdings, self._live, self._keys())
        return await finder.find(query)

    async def verify(self) -> Row:
        """Compare replicas, pages and mirrors, and repair what differs."""
        verified: Row = msgspec.to_builtins(await verify(self.fleet, self._open_page, self._live, self.sleep))
        return verified

    def mirror_report(self) -> MirrorReport:
        """How this router's mirror does."""
        sight = self.sight
        most_bytes = self.settings.directory.mirror_bytes
        return mirror_report(self.router, sight.mirror, sight.holdings, self._live, most_bytes)

    async def mirrored(self, holders: Collection[HolderId]) -> Mirrored:
        """What this router's mirror has of each holder, counted anew: a pass over the table for each."""
        accounts = []
        for holder in holders:
            accounts += self._account(holder)
            await asyncio.sleep(0)  # requests go on in between
        return Mirrored(self.router, tuple(accounts))

    def reload(self, wanted: Mapping[str, Collection[HolderId]]) -> None:
        """Read pages anew, those wanted of this router."""
        for holder in wanted.get(self.router, ()):
            self.sight.mirror.reload(holder)

    @property
    def _live(self) -> list[HolderId]:
        return [HolderId(replica) for replica in self.sight.roster.live]

    def _keys(self) -> dict[str, DomainKey]:
        """The key of each tenant, by its label."""
        model, block_tokens = self.settings.name, self.settings.engine.block_tokens
        salts = {label(domain): self.keyring.salt(domain) for domain in self.domains()}
        return {tenant: domain_key(salt, model, "", block_tokens) for tenant, salt in salts.items()}

    def _account(self, holder: HolderId) -> list[Account]:
        seen, holdings = self.sight.mirror.seen(holder), self.sight.holdings
        if seen is None:
            return []
        gpu, cpu, disk = (holdings.counts(holder)[level] for level in LEVELS)
        return [Account(holder, seen.epoch, seen.seq, holdings.recount(holder), (gpu, cpu, disk))]

    def _open_page(self, holder: HolderId) -> AbstractAsyncContextManager[Reading]:
        return reading(self.pages, holder, self.keyring.mac_key, _READ_S)

    async def _sizes(self) -> dict[HolderId, PageSize]:
        """Of the pages that can be measured in time."""
        found: dict[HolderId, PageSize] = {}
        measuring = asyncio.Semaphore(_MEASURED_AT_ONCE)

        async def measure(holder: HolderId) -> None:
            async with measuring:
                try:
                    found[holder] = await self.pages.measure(holder)
                except PagesDown:
                    return  # shown as not known

        try:
            async with asyncio.timeout(_MEASURE_S), asyncio.TaskGroup() as tasks:
                for holder in self._live:
                    tasks.create_task(measure(holder))
        except TimeoutError:
            return found
        return found
