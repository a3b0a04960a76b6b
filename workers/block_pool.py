"""Which blocks of tokens a paged KV cache holds, who uses them and which one goes next; bookkeeping only.

Names are chained as in vLLM: sha256 over (parent's digest, tokens, salt of a segment's first block), told in
events by their low 64 bits. A prompt is one segment, or a public one and behind it its own: the salt that stands at
the boundary keeps apart all that follows. Equal content in two physical blocks is stored, and removed, twice.
Where there are tiers below, the last copy sinks into them before its block is taken, and is fetched when asked for.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

from .content import Content, name_of, removed, stored
from .engine import Public
from .offload import Fetch, Offload
from .vllm_events import AllBlocksCleared, VllmEvent, segment_key

_ROOT = hashlib.sha256(b"kvplane: the parent of a prompt's first block").digest()


@dataclass(slots=True, eq=False)
class Table:
    """One sequence: its tokens so far, and the physical blocks their keys and values lie in."""

    salt: str = field(repr=False)
    words: bytearray = field(repr=False)  # token ids, little-endian uint32; sampled tokens are appended
    blocks: list[int] = field(default_factory=list)
    stored: int = 0  # leading blocks that can be reused by others
    digests: list[bytes] = field(default_factory=list, repr=False)  # of leading full blocks, as far as asked for
    cached: int = 0  # leading blocks that others had stored, when last asked for
    public: Public | None = None
    coming: Fetch | None = None  # what follows the stored blocks, from the tiers below

    @property
    def tokens(self) -> int:
        return len(self.words) // 4

    def salt_from(self, block: int) -> str:
        """The salt of the segment that begins with a block, counted from 0; empty where none begins."""
        if block == (self.public.blocks if self.public else 0):
            return self.salt
        return self.public.salt if self.public and not block else ""


class BlockPool:
    """A fixed number of blocks: in use, cached and free for the taking, or empty."""

    def __init__(self, blocks: int, block_tokens: int, below: Offload | None = None) -> None:
        self.blocks = blocks
        self.block_tokens = block_tokens
        self.below = below
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(blocks))  # the next to go stands first
        self._users = [0] * blocks
        self._content: list[Content | None] = [None] * blocks
        self._holders: dict[bytes, dict[int, None]] = {}  # digest -> blocks of that content, oldest first
        self._events: list[VllmEvent] = below.events if below else []  # in one order for all tiers

    @property
    def free_blocks(self) -> int:
        """Blocks a sequence could take, cached ones included."""
        return len(self._free)

    def cached_tokens(self, table: Table) -> int:
        """Leading tokens that could be reused, from any tier; never the last one, since its logits must be computed."""
        reusable = (table.tokens - 1) // self.block_tokens
        self._name(table, reusable)
        # A prefix outlives what follows it, so blocks come and go at the end: asking again costs next to nothing.
        # Only what a disk refused or spoiled may be missing further up, and is found when the table is opened.
        while table.cached and not self._is_held(table.digests[table.cached - 1]):
            table.cached -= 1
        while table.cached < reusable and self._is_held(table.digests[table.cached]):
            table.cached += 1
        return table.cached * self.block_tokens

    def open(self, table: Table) -> bool:
        """Share what is cached and take blocks for the rest of the table's tokens; False changes nothing.

        What is fetched from the tiers below is `coming`, until `fill`.
        """
        hits = self._hits(table)
        missing = self._blocks_for(table.tokens) - len(hits)
        if missing > len(self._free) - sum(1 for block in hits if not self._users[block]):
            return False
        for block in hits:
            self._users[block] += 1
            self._free.pop(block, None)
        table.blocks, table.stored = hits, len(hits)
        if self.below:
            reusable = (table.tokens - 1) // self.block_tokens
            table.coming = self.below.fetch(table.digests[len(hits) : reusable])
        self._take(table, missing)
        return True

    def fill(self, table: Table) -> int | None:
        """Have the next step put what has come into its blocks; how many lead the table then. None: nothing has."""
        coming = table.coming
        if self.below is None or coming is None or coming.depth is None:
            return None
        table.coming = None
        for place, kept in enumerate(coming.blocks[: coming.depth], table.stored):
            self.below.fill(kept, table.blocks[place])
        return table.stored + coming.depth

    def grow(self, table: Table, tokens: int) -> bool:
        """Make room for that many tokens in all; False changes nothing."""
        missing = self._blocks_for(tokens) - len(table.blocks)
        if missing > len(self._free):
            return False
        self._take(table, missing)
        return True

    def store(self, table: Table, computed: int) -> None:
        """Let others reuse the full blocks among the first `computed` tokens, whose KV must be there."""
        first, last = table.stored, computed // self.block_tokens
        if last <= first:
            return
        run = self._contents(table, first, last)
        for block, content in zip(table.blocks[first:last], run, strict=True):
            assert self._content[block] is None, "a block is stored once"
            self._content[block] = content
            self._holders.setdefault(content.digest, {})[block] = None
        table.stored = last
        self._events.append(stored(run, "gpu"))

    def release(self, table: Table) -> None:
        """Give a sequence's blocks back, the last first: a prefix outlives what follows it."""
        for block in reversed(table.blocks):
            self._users[block] -= 1
            if not self._users[block]:
                self._free[block] = None
                if self._content[block] is None:
                    self._free.move_to_end(block, last=False)
        table.blocks, table.stored = [], 0
        if table.coming:
            table.coming.dropped, table.coming = True, None

    def clear(self) -> bool:
        """Forget all cached content; False, and nothing changes, while a sequence uses a block."""
        if len(self._free) < self.blocks:
            return False
        self._content = [None] * self.blocks
        self._holders.clear()
        if self.below:
            self.below.clear()
        self._events.append(AllBlocksCleared())
        return True

    def take_events(self) -> list[VllmEvent]:
        """Hand over what happened since the last call, in order."""
        events = list(self._events)
        self._events.clear()
        return events

    def _is_held(self, digest: bytes) -> bool:
        return digest in self._holders or (self.below is not None and digest in self.below)

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_tokens)

    def _hits(self, table: Table) -> list[int]:
        reusable = (table.tokens - 1) // self.block_tokens
        self._name(table, reusable)
        hits: list[int] = []
        for digest in table.digests[:reusable]:
            if digest not in self._holders:
                break
            hits.append(next(iter(self._holders[digest])))
        return hits

    def _take(self, table: Table, count: int) -> None:
        for _ in range(count):
            block, _none = self._free.popitem(last=False)
            self._evict(block)
            self._users[block] = 1
            table.blocks.append(block)

    def _evict(self, block: int) -> None:
        content = self._content[block]
        if content is None:
            return
        self._content[block] = None
        holders = self._holders[content.digest]
        del holders[block]
        if not holders:
            del self._holders[content.digest]
            if self.below:
                self.below.sink(content, block)  # told before it is removed: whoever listens knows the block's words
        self._events.append(removed(content, "gpu"))

    def _name(self, table: Table, blocks: int) -> None:
        size = self.block_tokens * 4
        for index in range(len(table.digests), blocks):
            digest = hashlib.sha256(table.digests[-1] if index else _ROOT)
            digest.update(table.words[index * size : (index + 1) * size])
            digest.update(table.salt_from(index).encode())
            table.digests.append(digest.digest())

    def _contents(self, table: Table, first: int, last: int) -> list[Content]:
        self._name(table, last)
        size = self.block_tokens * 4
        parent = name_of(table.digests[first - 1]) if first else None
        run: list[Content] = []
        for index in range(first, last):
            words = bytes(table.words[index * size : (index + 1) * size])
            run.append(Content(table.digests[index], parent, words, segment_key(table.salt_from(index), index)))
            parent = run[-1].name
        return run
