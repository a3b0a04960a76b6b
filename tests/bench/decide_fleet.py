"""A router in the middle of its work: a full table, pages that speak, tickets under way; and no engine behind them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from random import Random

from kvplane.controlplane.decide import Asked, Decider
from kvplane.controlplane.roster import Roster
from kvplane.controlplane.sight import Sight
from kvplane.directory import (
    Batch,
    Checkpoint,
    Domain,
    HolderId,
    Keyring,
    Load,
    MemoryPages,
    Mirror,
    Overlay,
    Prefix,
    Segment,
    seal,
)
from kvplane.policies import Policy, PolicySettings, build_policy
from kvplane.workers import Ticket

from .forest import BLOCK_TOKENS, KEY, SALT, Prompt
from .kvplane_index import KvplaneIndex, holder_of

MAX_TOKENS = 256

_ROUTER, _MODEL, _TENANT = "bench", "bench", Domain("acme", "default")
_TICKETS_A_REPLICA = 4
_BLOCKS, _SEQUENCES, _SEQUENCE_BLOCKS = 8192, 16, 272  # of a replica; a sequence is a prompt of 4k and its answer


class _Salted(Keyring):
    """Gives every domain the salt that the forest's names are made under."""

    def salt(self, domain: Domain, salt_epoch: int = 0) -> str:
        return SALT


@dataclass
class Fleet:
    """Replicas that say how busy they are and nothing of their caches, which `index` is told of directly."""

    replicas: int
    index: KvplaneIndex = field(default_factory=KvplaneIndex)
    policy: Policy = field(default_factory=lambda: build_policy(PolicySettings(), Random(1)))

    def __post_init__(self) -> None:
        self._keyring, self._random, self._pages = _Salted(b"m" * 32), Random(self.replicas), MemoryPages()
        holders = [holder_of(replica) for replica in range(self.replicas)]
        self._seqs: dict[HolderId, int] = dict.fromkeys(holders, 0)
        roster = Roster()
        roster.update(holders)
        # Time stands still, so that no page falls silent however long the measurement takes.
        self.mirror = Mirror(
            self._pages, self.index.holdings, self._keyring.mac_key, lambda holder, served: None, lambda: 0.0
        )
        self.sight = Sight(self.index.holdings, self.mirror, Overlay(_ROUTER, lambda: 0.0), roster)
        self.decider = Decider(
            _ROUTER, _MODEL, BLOCK_TOKENS, self._keyring, self.sight, self.policy, PolicySettings().name
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Write every page, and follow all of them meanwhile."""
        for holder in self._seqs:
            await self._pages.checkpoint(seal(Checkpoint(holder, 1, 0, self._load()), self._keyring.mac_key(holder, 1)))
        following = asyncio.create_task(self.mirror.run(lambda: self._seqs))
        try:
            await self._heard(self._seqs)
            yield
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following

    def send(self, prompts: Sequence[Prompt]) -> None:
        """Have so many tickets under way on every replica that do not end."""
        prefixes = cycle([prefix_of(prompt) for prompt in prompts])
        for holder in self._seqs:
            for prefix in islice(prefixes, _TICKETS_A_REPLICA):
                self.sight.overlay.issue(holder, len(prefix.words) // 8, prefix.blocks, prefix)

    async def speak(self) -> None:
        """Let every replica say that it has something else to do, and the mirror hear it."""
        for holder in self._seqs:
            self._seqs[holder] += 1
            batch = Batch(holder, 1, self._seqs[holder], self._load())
            await self._pages.append(seal(batch, self._keyring.mac_key(holder, 1)))
        await self._heard(self._seqs)

    def end(self, ticket: Ticket) -> None:
        """A request is over, and what it left is forgotten at once."""
        self.decider.ended(ticket)
        self.sight.overlay.withdraw(ticket.number)

    def asked(self, prompt: Prompt) -> Asked:
        return Asked(_TENANT, prompt.words, max_tokens=MAX_TOKENS, traceparent=None, deadline_s=0.0)

    async def _heard(self, seqs: Mapping[HolderId, int]) -> None:
        for holder, seq in seqs.items():
            while (seen := self.mirror.seen(holder)) is None or seen.seq < seq:
                await asyncio.sleep(0)

    def _load(self) -> Load:
        running = self._random.randrange(_SEQUENCES)
        used = running * _SEQUENCE_BLOCKS
        return Load(self._random.randrange(16_384), running, used, _BLOCKS - used, _BLOCKS, {_ROUTER: 0})


def prefix_of(prompt: Prompt) -> Prefix:
    """A prompt as the table sees it."""
    return Prefix(prompt.words, BLOCK_TOKENS, (Segment(KEY, len(prompt.words)),))
