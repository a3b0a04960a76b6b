"""What a store of pages promises: each holder's own account of its cache, one writer, many readers."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from .ids import HolderId
from .wire import Sealed


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of an append. `lost`: the page is not where its writer left it; write a checkpoint."""

    lost: bool


class Pages(Protocol):
    """A log and a checkpoint per holder. Every implementation passes tests/directory/test_pages.py.

    All verbs raise `PagesDown` when the store does not answer, except `follow`, which waits for its return.
    """

    async def append(self, batch: Sealed) -> Appended:
        """Add a batch behind the last one; lost unless the page stands at the same epoch and at `seq - 1`."""
        ...

    async def checkpoint(self, checkpoint: Sealed) -> None:
        """Replace the page by a whole holding as of `seq`; the log behind it may go."""
        ...

    def follow(self, holder: HolderId) -> AsyncIterator[Sealed]:
        """Yield the checkpoint, if there is one, then each batch behind it, without end.

        It may skip (a trimmed log): the reader sees a gap in `seq`, and follows anew.
        """
        ...

    async def drop(self, holder: HolderId) -> None:
        """Remove a holder's page."""
        ...
