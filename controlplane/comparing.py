"""What a replica holds, what its page says and what mirrors say of it, compared at equal places."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from ..directory import DIGEST_BYTES, LEVELS, Account, HolderId, PageRead, Place


class LevelFound(msgspec.Struct, frozen=True):
    """Blocks at one level that differ; where the numbers are equal, the blocks are others."""

    level: str
    expected: int
    found: int


class Finding(msgspec.Struct, frozen=True):
    """One copy of one holding that is not as it should be: a page as its replica says, a mirror as the page says."""

    replica: HolderId
    copy: Literal["replica", "page", "mirror"]
    router: str | None  # whose mirror
    what: str
    levels: tuple[LevelFound, ...] = ()
    repaired: bool = False

    @property
    def about(self) -> tuple[str, str, str | None]:
        return self.replica, self.copy, self.router


@dataclass(frozen=True, slots=True)
class Look:
    """All accounts, as they came."""

    live: Sequence[HolderId]
    replicas: Mapping[HolderId, Account]
    mirrors: Mapping[str, Mapping[HolderId, Account]]
    pages: Mapping[HolderId, PageRead]

    @property
    def findings(self) -> list[Finding]:
        """Every copy that is wrong, or that cannot be compared this time."""
        return [finding for holder in self.live for finding in self._of(holder)]

    def places(self, holder: HolderId) -> set[Place]:
        """Where its page must be read to compare it."""
        accounts = (self.replicas.get(holder), *(mirror.get(holder) for mirror in self.mirrors.values()))
        return {account.place for account in accounts if account is not None}

    def _of(self, holder: HolderId) -> Iterator[Finding]:
        page, own = self.pages.get(holder, PageRead()), self.replicas.get(holder)
        if own is None:
            yield Finding(holder, "replica", None, "does not answer")
        elif what := _untold(page, own):
            yield Finding(holder, "page", None, what)
        elif levels := _levels(own, page.accounts.get(own.place, own)):
            yield Finding(holder, "page", None, "differs from its replica", levels)
        for router, accounts in self.mirrors.items():
            account = accounts.get(holder)
            if account is None:
                yield Finding(holder, "mirror", router, "has not read the page")
            elif what := _untold(page, account):
                yield Finding(holder, "mirror", router, what)
            elif levels := _levels(page.accounts.get(account.place, account), account):
                yield Finding(holder, "mirror", router, "differs from the page", levels)


def _untold(page: PageRead, account: Account) -> str | None:
    """Why a page cannot be compared with an account."""
    if account.place in page.accounts or account == page.checkpoint:
        return None
    if page.place is None:
        return "the page is not there"
    flaw = f": {page.flaw}" if page.flaw else ""
    return f"the page, read anew up to {_said(page.place)}, does not tell of {_said(account.place)}{flaw}"


def _levels(expected: Account, found: Account) -> tuple[LevelFound, ...]:
    size = DIGEST_BYTES // len(LEVELS)
    return tuple(
        LevelFound(level.name.lower(), expected.blocks[at], found.blocks[at])
        for at, level in enumerate(LEVELS)
        if expected.digest[at * size : (at + 1) * size] != found.digest[at * size : (at + 1) * size]
        or expected.blocks[at] != found.blocks[at]
    )


def _said(place: Place) -> str:
    return f"{place[0]}-{place[1]}"
