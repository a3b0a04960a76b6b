"""Compares what each replica holds, what its page says and what every router's mirror says, and has wrongs righted.

All three are accounts at a place of the page, an epoch and a seq, so they need not be taken at one moment: a page that
is begun to be read before the others are asked passes the replica's place and every mirror's.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from typing import Protocol

import msgspec

from ..directory import Account, HolderId, PageRead, Place
from .comparing import Finding, Look
from .directory_report import MirroredPage, MirrorReport

_ASKS = 3  # a page that is rewritten at the wrong moment leaves a place untold; a difference stays
_REPAIRS = 5  # times to look whether a repair has taken
_PAUSE_S = 1.0
_AT_ONCE = 16  # pages, each in a table of its own


class Mirrored(msgspec.Struct, frozen=True):
    """What one router's mirror has of each holder, counted anew from its table."""

    router: str
    accounts: tuple[Account, ...]


class Fleet(Protocol):
    """All replicas and all routers; who does not answer is missing."""

    async def accounts(self, holders: Collection[HolderId]) -> Sequence[Account]: ...

    async def mirrored(self, holders: Collection[HolderId]) -> Sequence[Mirrored]: ...

    async def mirrors(self) -> Sequence[MirrorReport]: ...

    async def rewrite(self, holders: Collection[HolderId]) -> None: ...

    async def reload(self, wanted: Mapping[str, Collection[HolderId]]) -> None: ...


class Page(Protocol):
    """A page, read up to its checkpoint."""

    async def at(self, places: Collection[Place]) -> PageRead: ...


OpenPage = Callable[[HolderId], AbstractAsyncContextManager[Page]]


class Held(msgspec.Struct, frozen=True):
    """What a replica says it holds: blocks at their nearest level."""

    replica: HolderId
    epoch: int
    seq: int
    digest: str  # hexadecimal
    gpu_blocks: int
    cpu_blocks: int
    disk_blocks: int
    blocks: int


class Verified(msgspec.Struct, frozen=True):
    """What was found each time it was asked; nothing: all copies agree."""

    equal: bool
    replicas: tuple[Held, ...]
    routers: tuple[str, ...]
    findings: tuple[Finding, ...]


async def verify(
    fleet: Fleet,
    open_page: OpenPage,
    live: Collection[HolderId],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Verified:
    """Ask up to three times, a second apart, and believe what is found every time; then repair, and look again."""
    looks = await _look(fleet, open_page, live)
    standing = _findings(looks)
    for _ in range(_ASKS - 1):
        if not standing:
            break
        await sleep(_PAUSE_S)
        looks = await _look(fleet, open_page, live)
        standing = _still(_findings(looks), standing)
    if standing:
        standing = await _explained(fleet, standing)
        await _repair(fleet, standing)
    left = standing
    for _ in range(_REPAIRS):
        if not left:
            break
        await sleep(_PAUSE_S)
        left = _still(_findings(await _look(fleet, open_page, live)), left)
    open_still = {finding.about for finding in left}
    held = tuple(_held(account) for look in looks for account in look.replicas.values())
    routers = tuple(sorted({router for look in looks for router in look.mirrors}))
    found = (msgspec.structs.replace(each, repaired=each.about not in open_still) for each in standing)
    return Verified(not standing, held, routers, tuple(found))


async def _look(fleet: Fleet, open_page: OpenPage, live: Collection[HolderId]) -> list[Look]:
    """All accounts there are, those of a few replicas at a time."""
    holders = sorted(live)
    return [await _look_at(holders[at : at + _AT_ONCE], fleet, open_page) for at in range(0, len(holders), _AT_ONCE)]


async def _look_at(holders: Sequence[HolderId], fleet: Fleet, open_page: OpenPage) -> Look:
    async with AsyncExitStack() as stack:
        opened = await asyncio.gather(*(stack.enter_async_context(open_page(holder)) for holder in holders))
        replicas = {account.holder: account for account in await fleet.accounts(holders)}
        mirrors = {
            mirror.router: {account.holder: account for account in mirror.accounts}
            for mirror in await fleet.mirrored(holders)
        }
        asked = Look(holders, replicas, mirrors, {})
        places = map(asked.places, holders)
        read = await asyncio.gather(*(page.at(each) for page, each in zip(opened, places, strict=True)))
        return replace(asked, pages=dict(zip(holders, read, strict=True)))


def _findings(looks: Sequence[Look]) -> list[Finding]:
    return [finding for look in looks for finding in look.findings]


async def _explained(fleet: Fleet, findings: Sequence[Finding]) -> list[Finding]:
    """The same, where a mirror differs because it took a page for impossible with that said."""
    if all(finding.router is None for finding in findings):
        return list(findings)
    aside: dict[tuple[str | None, HolderId], str] = {
        (mirror.router, page.replica): _why_aside(page)
        for mirror in await fleet.mirrors()
        for page in mirror.pages
        if page.aside
    }
    return [msgspec.structs.replace(each, what=aside.get((each.router, each.replica), each.what)) for each in findings]


async def _repair(fleet: Fleet, findings: Sequence[Finding]) -> None:
    """The replica is right about itself, and a mirror has nothing but the page."""
    reload = defaultdict[str, list[HolderId]](list)
    for finding in findings:
        if finding.router is not None:
            reload[finding.router].append(finding.replica)
    if pages := [finding.replica for finding in findings if finding.copy == "page"]:
        await fleet.rewrite(pages)
    if reload:
        await fleet.reload(reload)


def _why_aside(page: MirroredPage) -> str:
    return (
        f"has set the page aside, for it cannot be true: {page.implausible} messages told of more blocks in gpu than"
        f" fit, {page.hasty} of more new ones than can have been computed"
    )


def _held(account: Account) -> Held:
    place, digest = account.place, account.digest.hex()
    return Held(account.holder, *place, digest, *account.blocks, sum(account.blocks))


def _still(findings: Sequence[Finding], before: Sequence[Finding]) -> list[Finding]:
    about = {finding.about for finding in before}
    return [finding for finding in findings if finding.about in about]
