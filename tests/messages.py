"""Signed messages that say nothing but their place, and where a page of Redis keeps them."""

from kvplane.directory import Batch, Checkpoint, DirectorySettings, HolderId, Load, Sealed, holder_id, seal
from kvplane.directory.redis_keys import PageKeys, page_keys

_KEY = b"k" * 32


def batch(holder: HolderId, seq: int, epoch: int = 1) -> Sealed:
    return seal(Batch(holder, epoch, seq, Load()), _KEY)


def whole(holder: HolderId, seq: int, epoch: int = 1) -> Sealed:
    return seal(Checkpoint(holder, epoch, seq, Load()), _KEY)


def keys_of(holder: HolderId) -> PageKeys:
    return page_keys(holder, DirectorySettings().shards)


def neighbour(holder: HolderId) -> HolderId:
    """Another holder whose page is on the same logical shard."""
    others = (holder_id(f"{holder}-{number}") for number in range(1000))
    return next(other for other in others if keys_of(other).shard == keys_of(holder).shard)
