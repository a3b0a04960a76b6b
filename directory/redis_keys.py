"""The keys of a page: of one hash tag, so that it lives on one node and one script reaches all of it."""

import zlib
from dataclasses import dataclass
from functools import cache
from itertools import count

from redis.crc import key_slot

from .ids import HolderId

_SLOTS = 16384
_PARTS = 8


@dataclass(frozen=True, slots=True)
class PageKeys:
    """Where the page of a holder is; all who share a directory count the same logical shards."""

    holder: HolderId
    shard: int
    tag: str

    @property
    def log(self) -> str:
        return f"{self.tag}:{self.holder}:log"

    @property
    def checkpoint(self) -> str:
        return f"{self.tag}:{self.holder}:checkpoint"

    @property
    def head(self) -> str:
        return f"{self.tag}:{self.holder}:head"

    @property
    def all(self) -> tuple[str, str, str]:
        return self.log, self.checkpoint, self.head


def page_keys(holder: HolderId, shards: int) -> PageKeys:
    shard = zlib.crc32(holder.encode()) % shards
    return PageKeys(holder, shard, hash_tag(shard, shards))


@cache
def hash_tag(shard: int, shards: int) -> str:
    """The tag of a logical shard, whose slot is where an even share of all slots begins.

    So nodes that divide the slots evenly get as many shards each, give or take one.
    """
    for number in count():
        tag = f"kv:{shard:02d}.{number}"
        if key_slot(tag.encode()) * shards * _PARTS // _SLOTS == shard * _PARTS:
            return f"{{{tag}}}"
    raise AssertionError("some text falls into every range of slots")
