"""SGLang's KV events, read into the engine contract's own.

A payload is the msgpack array `[ts, [event, ...], data_parallel_rank]`, each event a map with the key `type`. Hashes
are signed. Fields that this adapter does not need are accepted and ignored, and so are media that it does not know.
"""

import struct
from collections.abc import Sequence
from typing import Annotated

import msgspec

from .engine import Cleared, EngineEvent, Removed, Stored, Tier
from .words import words_beside

# EXTERNAL is a store that many engines share; no replica may promise what another one may delete.
_TIERS: dict[str | None, Tier] = {None: "gpu", "GPU": "gpu", "CPU": "cpu", "CPU_PINNED": "cpu", "DISK": "disk"}

_Word = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]


class _Event(msgspec.Struct, tag_field="type", frozen=True, kw_only=True):
    medium: str | None = None


class _BlockStored(_Event, tag="BlockStored", frozen=True, kw_only=True):
    """Every event of a salted prompt carries the salt, in clear."""

    block_hashes: tuple[int, ...]
    parent_block_hash: int | None = None
    token_ids: tuple[_Word, ...]
    lora_id: int | str | None = None
    cache_salt: str | None = None


class _BlockRemoved(_Event, tag="BlockRemoved", frozen=True, kw_only=True):
    block_hashes: tuple[int, ...]


class _AllBlocksCleared(_Event, tag="AllBlocksCleared", frozen=True):
    """Told at the start, and when the cache is flushed."""


class _EventBatch(msgspec.Struct, array_like=True, frozen=True):
    ts: float
    events: tuple[_BlockStored | _BlockRemoved | _AllBlocksCleared, ...]


_decoder = msgspec.msgpack.Decoder(_EventBatch)


def decode(payload: bytes) -> Sequence[EngineEvent]:
    """Read one ZMQ payload. Raises `msgspec.MsgspecError` on anything else."""
    told: list[EngineEvent] = []
    for event in _decoder.decode(payload).events:
        tier = _TIERS.get(event.medium)
        match event:
            case _BlockStored() if tier:
                told.append(_stored(event, tier))
            case _BlockRemoved() if tier:
                told.append(Removed(event.block_hashes, tier))
            case _AllBlocksCleared():
                told.append(Cleared())
    return told


def _stored(event: _BlockStored, tier: Tier) -> Stored:
    """A salt that is not told is inherited, but for a prompt's first block on the gpu: that one has none."""
    opens = event.parent_block_hash is None and tier == "gpu"
    salt = event.cache_salt or ("" if opens else None)
    words = struct.pack(f"<{len(event.token_ids)}I", *event.token_ids)
    if event.lora_id is not None:
        size = len(words) // max(1, len(event.block_hashes)) or 1
        pieces = (words[at : at + size] for at in range(0, len(words), size))
        words = b"".join(words_beside((event.lora_id,), piece) for piece in pieces)
    return Stored(event.block_hashes, event.parent_block_hash, words, tier, salt)
