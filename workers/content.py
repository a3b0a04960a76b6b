"""A full block of a prompt as a KV cache knows it, and how it is told of."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from .engine import Tier
from .vllm_events import BlockRemoved, BlockStored

_MEDIUMS: dict[Tier, str] = {"gpu": "GPU", "cpu": "CPU", "disk": "STORAGE"}  # vLLM's names


@dataclass(frozen=True, slots=True)
class Content:
    """What stands in a block. Its digest covers all before it and the salts, so equal digests are equal KV."""

    digest: bytes
    parent: int | None  # the name of the block before it; None: it opens a prompt
    words: bytes = field(repr=False)
    key: tuple[str, ...] | None = field(repr=False)  # where a segment begins: its salt, as extra keys tell it

    @property
    def name(self) -> int:
        """What events call it: the low 64 bits."""
        return name_of(self.digest)


def name_of(digest: bytes) -> int:
    return int.from_bytes(digest[-8:], "big")


def stored(run: Sequence[Content], tier: Tier) -> BlockStored:
    """Tell that consecutive blocks can be found in a tier."""
    words = b"".join(content.words for content in run)
    keys = tuple(content.key for content in run)
    return BlockStored(
        block_hashes=tuple(content.name for content in run),
        parent_block_hash=run[0].parent,
        token_ids=struct.unpack(f"<{len(words) // 4}I", words),
        block_size=len(run[0].words) // 4,
        medium=_MEDIUMS[tier],
        extra_keys=keys if any(keys) else None,
    )


def removed(content: Content, tier: Tier) -> BlockRemoved:
    """Tell that one copy has left a tier."""
    return BlockRemoved(block_hashes=(content.name,), medium=_MEDIUMS[tier])
