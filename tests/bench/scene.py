"""A fleet that publishes and a mirror that reads, each in its process; and whether they agree, down to each name."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager

from kvplane.directory import Account, HolderId, Pages, PagesDown, open_pages, reading

from .child import Child, child
from .errors import BenchError
from .fleet import TellAccounts, fleet
from .forest import Forest
from .kvplane_index import holder_of
from .reader import KEYRING, SETTINGS, Mirrored, mirroring
from .reading import Reach, Reached, TellDigests, TellWatched, Watched

_PROMPTS = 16  # that are asked all the time
_WATCHED = (4096, 95, 8)  # their tokens, per cent cached, extents
_READ_PAGES = 16  # that are read anew, to compare
_READ_S = 5.0
_TRIES = 3
_BACK_S = 60.0
_LOOK_S = 0.02


class Scene:
    """Nothing changes in it but by faults: what the fleet holds is what the mirror should know."""

    def __init__(self, url: str, holders: Sequence[HolderId], publishers: Child, mirror: Child) -> None:
        self.url = url
        self._holders = holders
        self._publishers = publishers
        self._mirror = mirror

    def accounts(self) -> Mapping[HolderId, Account]:
        """What each replica says that it holds, as of a batch that it has just made."""
        found: Mapping[HolderId, Account] = self._publishers.ask(TellAccounts())
        return found

    def back(self) -> float:
        """Wait until every page is there again and the mirror reads on; the time, by `time.monotonic`."""
        asyncio.run(_all_there(self.url, self._holders))
        return self._reach(self._mirror, self.accounts())

    def exact(self) -> bool:
        """Whether replicas, pages and mirror agree: every digest, some recounted, and some pages read anew."""
        return any(self._agree() for _ in range(_TRIES))  # a page trimmed while it is read tells nothing

    def watched(self) -> Watched:
        """What the look-ups since the last time came to."""
        found: Watched = self._mirror.ask(TellWatched())
        return found

    def another(self) -> tuple[float, bool]:
        """Seconds that a new mirror takes until it knows every page, and whether it is exact then."""
        accounts = self.accounts()
        with mirroring(Mirrored(self.url, list(accounts))) as (mirror, began_s):
            reached_s = self._reach(mirror, accounts)
            return reached_s - began_s, _digests(mirror) == {holder: one.digest for holder, one in accounts.items()}

    def _agree(self) -> bool:
        accounts = asyncio.run(self._as_pages_say())
        if accounts is None:
            return False
        self._reach(self._mirror, accounts)
        return _digests(self._mirror) == {holder: account.digest for holder, account in accounts.items()}

    async def _as_pages_say(self) -> Mapping[HolderId, Account] | None:
        """The replicas' accounts, if the pages that are read anew say the same."""
        async with open_pages(self.url, SETTINGS) as pages, AsyncExitStack() as stack:
            holders = self._holders[:: len(self._holders) // _READ_PAGES or 1]
            opening = [reading(pages, holder, KEYRING.mac_key, _READ_S) for holder in holders]
            begun = [await stack.enter_async_context(page) for page in opening]
            accounts = await asyncio.to_thread(self.accounts)
            wanted = [accounts[holder] for holder in holders]
            reads = [await page.at([account.place]) for page, account in zip(begun, wanted, strict=True)]
        said = [read.accounts.get(account.place, read.checkpoint) for read, account in zip(reads, wanted, strict=True)]
        return accounts if said == wanted else None

    def _reach(self, mirror: Child, accounts: Mapping[HolderId, Account]) -> float:
        reached: Reached = mirror.ask(Reach({holder: account.place for holder, account in accounts.items()}))
        return reached.at_s


@contextmanager
def scene(url: str, forest: Forest) -> Iterator[Scene]:
    """All that the forest places, published and read, and some prompts asked without end."""
    drawn = [forest.prompt(*_WATCHED, number) for number in range(_PROMPTS)]
    prompts = [prompt for prompt in drawn if prompt is not None]
    placed = [*forest.stretches(), *(stretch for prompt in prompts for stretch in prompt.stretches)]
    watched = [
        (prompt.words, {holder_of(replica): blocks for replica, blocks in prompt.extents.items()}) for prompt in prompts
    ]
    holders = [holder_of(replica) for replica in range(forest.replicas)]
    with (
        child(fleet, url, forest.replicas, placed) as publishers,
        mirroring(Mirrored(url, holders, watched)) as (mirror, _),
    ):
        here = Scene(url, holders, publishers, mirror)
        here.back()
        if not here.exact():
            raise BenchError("replicas, pages and mirror do not agree to begin with")
        here.watched()
        yield here


def _digests(mirror: Child) -> Mapping[HolderId, bytes]:
    found: Mapping[HolderId, bytes] = mirror.ask(TellDigests(recounts=2))
    return found


async def _all_there(url: str, holders: Sequence[HolderId]) -> None:
    async with open_pages(url, SETTINGS) as pages, asyncio.timeout(_BACK_S):
        while holders:
            there = await asyncio.gather(*(_is_there(pages, holder) for holder in holders))
            holders = [holder for holder, found in zip(holders, there, strict=True) if not found]
            await asyncio.sleep(_LOOK_S if holders else 0)


async def _is_there(pages: Pages, holder: HolderId) -> bool:
    try:
        return (await pages.measure(holder)).checkpoint_bytes > 0
    except PagesDown:
        return False
