"""Which blocks of tokens a paged KV cache holds, who uses them and which one goes next; bookkeeping only.

Names are chained as in vLLM: sha256 over (parent's digest, tokens, salt of a prompt's first block), told in
events by their low 64 bits. Equal content in two physical blocks is stored, and removed, twice.
"""

import hashlib
import struct
from collections import OrderedDict
from dataclasses import dataclass, field

from .vllm_events import AllBlocksCleared, BlockRemoved, BlockStored, VllmEvent

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

    @property
    def tokens(self) -> int:
        return len(self.words) // 4


class BlockPool:
    """A fixed number of blocks: in use, cached and free for the taking, or empty."""

    def __init__(self, blocks: int, block_tokens: int) -> None:
        self.blocks = blocks
        self.block_tokens = block_tokens
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(blocks))  # the next to go stands first
        self._users = [0] * blocks
        self._content: list[bytes | None] = [None] * blocks
        self._holders: dict[bytes, dict[int, None]] = {}  # digest -> blocks of that content, oldest first
        self._events: list[VllmEvent] = []

    @property
    def free_blocks(self) -> int:
        """Blocks a sequence could take, cached ones included."""
        return len(self._free)

    def cached_tokens(self, table: Table) -> int:
        """Leading tokens that could be reused; never the last one, since its logits must be computed."""
        reusable = (table.tokens - 1) // self.block_tokens
        self._name(table, reusable)
        # A prefix outlives what follows it, so blocks come and go at the end: asking again costs next to nothing.
        while table.cached and table.digests[table.cached - 1] not in self._holders:
            table.cached -= 1
        while table.cached < reusable and table.digests[table.cached] in self._holders:
            table.cached += 1
        return table.cached * self.block_tokens

    def open(self, table: Table) -> bool:
        """Share what is cached and take blocks for the rest of the table's tokens; False changes nothing."""
        hits = self._hits(table)
        missing = self._blocks_for(table.tokens) - len(hits)
        if missing > len(self._free) - sum(1 for block in hits if not self._users[block]):
            return False
        for block in hits:
            self._users[block] += 1
            self._free.pop(block, None)
        table.blocks, table.stored = hits, len(hits)
        self._take(table, missing)
        return True

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
        self._name(table, last)
        for block, digest in zip(table.blocks[first:last], table.digests[first:last], strict=True):
            assert self._content[block] is None, "a block is stored once"
            self._content[block] = digest
            self._holders.setdefault(digest, {})[block] = None
        table.stored = last
        self._events.append(self._stored(table, first, last))

    def release(self, table: Table) -> None:
        """Give a sequence's blocks back, the last first: a prefix outlives what follows it."""
        for block in reversed(table.blocks):
            self._users[block] -= 1
            if not self._users[block]:
                self._free[block] = None
                if self._content[block] is None:
                    self._free.move_to_end(block, last=False)
        table.blocks, table.stored = [], 0

    def clear(self) -> bool:
        """Forget all cached content; False, and nothing changes, while a sequence uses a block."""
        if len(self._free) < self.blocks:
            return False
        self._content = [None] * self.blocks
        self._holders.clear()
        self._events.append(AllBlocksCleared())
        return True

    def take_events(self) -> list[VllmEvent]:
        """Hand over what happened since the last call, in order."""
        events, self._events = self._events, []
        return events

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
        digest = self._content[block]
        if digest is None:
            return
        self._content[block] = None
        del self._holders[digest][block]
        if not self._holders[digest]:
            del self._holders[digest]
        self._events.append(BlockRemoved(block_hashes=(_low64(digest),), medium="GPU"))

    def _name(self, table: Table, blocks: int) -> None:
        size = self.block_tokens * 4
        for index in range(len(table.digests), blocks):
            digest = hashlib.sha256(table.digests[-1] if index else _ROOT)
            digest.update(table.words[index * size : (index + 1) * size])
            if not index:
                digest.update(table.salt.encode())
            table.digests.append(digest.digest())

    def _stored(self, table: Table, first: int, last: int) -> BlockStored:
        size = self.block_tokens * 4
        words = table.words[first * size : last * size]
        return BlockStored(
            block_hashes=tuple(map(_low64, table.digests[first:last])),
            parent_block_hash=_low64(table.digests[first - 1]) if first else None,
            token_ids=struct.unpack(f"<{len(words) // 4}I", words),
            block_size=self.block_tokens,
            medium="GPU",
            extra_keys=((table.salt,), *[None] * (last - 1)) if table.salt and not first else None,
        )


def _low64(digest: bytes) -> int:
    return int.from_bytes(digest[-8:], "big")
