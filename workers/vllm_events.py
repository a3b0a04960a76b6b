"""vLLM 0.32's KV event schema, read into the engine contract's own events.

A payload is the msgpack array `[ts, [event, ...], data_parallel_rank]`, each event a map with the key `type`.
Fields this adapter does not need are accepted and ignored.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from .engine import BlockHash, Cleared, EngineEvent, Removed, Stored, Tier

_TIERS: dict[str, Tier] = {"GPU": "gpu", "CPU": "cpu", "STORAGE": "disk"}


class BlockStored(msgspec.Struct, tag="BlockStored", tag_field="type", frozen=True, omit_defaults=True, kw_only=True):
    """`extra_keys` has one entry per block; a prompt's first block carries the cache salt in it, in clear."""

    block_hashes: tuple[int | bytes, ...]
    parent_block_hash: int | bytes | None = None
    token_ids: tuple[int, ...]
    block_size: int
    lora_id: int | None = None
    medium: str | None = None
    lora_name: str | None = None
    extra_keys: tuple[tuple[Any, ...] | None, ...] | None = None  # Any: salts, adapter names, image hashes
    group_idx: int | None = None

    def __repr__(self) -> str:
        return f"BlockStored({len(self.block_hashes)} blocks, {self.medium})"  # extra_keys hold salts


class BlockRemoved(msgspec.Struct, tag="BlockRemoved", tag_field="type", frozen=True, omit_defaults=True, kw_only=True):
    """One hash per event on the gpu tier, many on others."""

    block_hashes: tuple[int | bytes, ...]
    medium: str | None = None
    group_idx: int | None = None


class AllBlocksCleared(msgspec.Struct, tag="AllBlocksCleared", tag_field="type", frozen=True):
    """The prefix cache was reset."""


VllmEvent = BlockStored | BlockRemoved | AllBlocksCleared


class EventBatch(msgspec.Struct, array_like=True, frozen=True):
    """One ZMQ payload."""

    ts: float
    events: tuple[VllmEvent, ...]
    data_parallel_rank: int | None = None


_decoder = msgspec.msgpack.Decoder(EventBatch)


def decode(payload: bytes) -> Sequence[EngineEvent]:
    """Read one ZMQ payload. Raises `msgspec.MsgspecError` on anything else."""
    return translate(_decoder.decode(payload).events)


def translate(events: Iterable[VllmEvent]) -> Sequence[EngineEvent]:
    """Map events one to one, in order."""
    return [_translate(event) for event in events]


def _translate(event: VllmEvent) -> EngineEvent:
    match event:
        case BlockStored():
            return Stored(
                hashes=event.block_hashes,
                parent=event.parent_block_hash,
                words=struct.pack(f"<{len(event.token_ids)}I", *event.token_ids),
                tier=_TIERS[event.medium or "GPU"],
                salt=_salt(event),
            )
        case BlockRemoved():
            return Removed(event.block_hashes, _TIERS[event.medium or "GPU"])
        case AllBlocksCleared():
            return Cleared()


def _salt(event: BlockStored) -> str | None:
    """The salt is the string among a first block's extra keys that is not the adapter's name.

    None where it is to be inherited: behind a parent, and on other tiers, whose events leave the keys out.
    """
    if event.parent_block_hash is not None or event.medium not in (None, "GPU"):
        return None
    first: tuple[BlockHash | str, ...] = (event.extra_keys or (None,))[0] or ()
    return next((key for key in first if isinstance(key, str) and key != event.lora_name), "")
