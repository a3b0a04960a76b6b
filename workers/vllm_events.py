"""vLLM's KV events, read into the engine contract's own: those of 0.32, whose events are maps, and those of before.

A payload is the msgpack array `[ts, [event, ...], data_parallel_rank]`, each event a map with the key `type`, or an
array that begins with its type. Fields that this adapter does not need are accepted and ignored, and so are media
that it does not know: what lies there is promised to nobody.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Annotated, Any

import msgspec

from .engine import EVERY, Cleared, EngineEvent, Removed, Stored, Tier, WindowsRemoved, WindowsStored
from .words import words_beside

_TIERS: dict[str | None, Tier] = {None: "gpu", "GPU": "gpu", "CPU": "cpu", "STORAGE": "disk", "DISK": "disk"}
_WHOLE = {None, "full_attention", "mla_attention", "sink_full_attention"}  # kinds of layers that look back at all
_SEGMENT = "kvplane segment"  # vLLM has no segments, and there is no telling a salt from an image's hash by its look

_Word = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
_Keys = tuple[Any, ...]  # Any: salts, adapter names, images with their places


class BlockStored(msgspec.Struct, tag="BlockStored", tag_field="type", frozen=True, omit_defaults=True, kw_only=True):
    """`extra_keys` has one entry per block; a prompt's first block carries the cache salt in it, in clear.

    Of the engines that have segments, so does the first block of a later one (`segment_key`).
    """

    block_hashes: tuple[int | bytes, ...]
    parent_block_hash: int | bytes | None = None
    token_ids: tuple[_Word, ...]
    block_size: int
    lora_id: int | None = None
    medium: str | None = None
    lora_name: str | None = None
    extra_keys: tuple[_Keys | None, ...] | None = None
    group_idx: int | None = None
    kv_cache_spec_kind: str | None = None
    kv_cache_spec_sliding_window: int | None = None
    locality: str | None = None

    def __repr__(self) -> str:
        return f"BlockStored({len(self.block_hashes)} blocks, {self.medium})"  # extra_keys hold salts


class BlockRemoved(msgspec.Struct, tag="BlockRemoved", tag_field="type", frozen=True, omit_defaults=True, kw_only=True):
    """One hash per event on the gpu tier, many on others."""

    block_hashes: tuple[int | bytes, ...]
    medium: str | None = None
    group_idx: int | None = None
    locality: str | None = None


class AllBlocksCleared(msgspec.Struct, tag="AllBlocksCleared", tag_field="type", frozen=True):
    """The prefix cache was reset."""


VllmEvent = BlockStored | BlockRemoved | AllBlocksCleared


class EventBatch(msgspec.Struct, array_like=True, frozen=True):
    """One ZMQ payload."""

    ts: float
    events: tuple[VllmEvent, ...]
    data_parallel_rank: int | None = None


class _StoredArray(BlockStored, tag="BlockStored", array_like=True, frozen=True):
    """Before 0.30; older ones lack the last fields."""


class _RemovedArray(BlockRemoved, tag="BlockRemoved", array_like=True, frozen=True):
    """Likewise."""


class _ClearedArray(AllBlocksCleared, tag="AllBlocksCleared", array_like=True, frozen=True):
    """Likewise."""


class _ArrayBatch(msgspec.Struct, array_like=True, frozen=True):
    ts: float
    events: tuple[_StoredArray | _RemovedArray | _ClearedArray, ...]


_maps = msgspec.msgpack.Decoder(EventBatch)
_arrays = msgspec.msgpack.Decoder(_ArrayBatch)


class VllmEvents:
    """Reads one engine's payloads, in order. It learns what each group of layers is: removals do not say."""

    def __init__(self) -> None:
        self._chain: int | None = None  # the group that blocks are promised by
        self._reach: dict[int, int] = {}  # of all others

    def read(self, payload: bytes) -> Sequence[EngineEvent]:
        """Raises `msgspec.MsgspecError` on anything but a batch."""
        return [told for event in _decode(payload) for told in self._told(event)]

    def _told(self, event: VllmEvent) -> Iterator[EngineEvent]:
        tier = None if isinstance(event, AllBlocksCleared) else _tier(event)
        match event:
            case BlockStored(group_idx=int() as group) if self._looks_back(group, event):
                if tier:
                    yield WindowsStored(event.block_hashes, group, self._reach[group], tier)
            case BlockRemoved(group_idx=int() as group) if group in self._reach:
                if tier:
                    yield WindowsRemoved(event.block_hashes, group, tier)
            case _:
                yield from _translate(event)

    def _looks_back(self, group: int, event: BlockStored) -> bool:
        if group in self._reach:
            return True
        if event.kv_cache_spec_kind in _WHOLE and self._chain in (None, group):
            self._chain = group
            return False
        self._reach[group] = _reach(event)
        return True


def decode(payload: bytes) -> Sequence[EngineEvent]:
    """Read one payload of an engine with a single group of layers. Raises `msgspec.MsgspecError` on anything else."""
    return translate(_decode(payload))


def translate(events: Iterable[VllmEvent]) -> Sequence[EngineEvent]:
    """Map events in order, one to one but for those that tell of several segments."""
    return [told for event in events for told in _translate(event)]


def segment_key(salt: str, block: int) -> tuple[str, ...] | None:
    """The entry among extra keys of a block, numbered in its prompt from 0, with which a salt's segment begins."""
    if not salt:
        return None
    return (_SEGMENT, salt) if block else (salt,)


def _decode(payload: bytes) -> Sequence[VllmEvent]:
    try:
        return _maps.decode(payload).events
    except msgspec.ValidationError:
        return _arrays.decode(payload).events


def _tier(event: BlockStored | BlockRemoved) -> Tier | None:
    return None if event.locality == "REMOTE" else _TIERS.get(event.medium)


def _reach(event: BlockStored) -> int:
    """How many blocks must stand for the layers of a group to go on; all, where that is not understood."""
    kind, window = event.kv_cache_spec_kind, event.kv_cache_spec_sliding_window
    if kind == "mamba":
        return 1  # its state behind a block
    if kind in ("sliding_window", "sliding_window_mla") and window and event.block_size:
        return max(1, -(-(window - 1) // event.block_size))
    return EVERY


def _translate(event: VllmEvent) -> Iterator[EngineEvent]:
    match event:
        case BlockStored():
            if tier := _tier(event):
                yield from _stored(event, tier)
        case BlockRemoved():
            if tier := _tier(event):
                yield Removed(event.block_hashes, tier)
        case AllBlocksCleared():
            yield Cleared()


def _stored(event: BlockStored, tier: Tier) -> Iterator[Stored]:
    """One for each segment: a salt is told of consecutive blocks."""
    hashes, words = event.block_hashes, struct.pack(f"<{len(event.token_ids)}I", *event.token_ids)
    size = len(words) // max(1, len(hashes))
    salts, others = _keys(event)
    if others:
        words = _covering(others, words, size)
    for (first, salt), last in zip(salts.items(), (*list(salts)[1:], len(hashes)), strict=True):
        parent = hashes[first - 1] if first else event.parent_block_hash
        piece = words[first * size : last * size] if len(salts) > 1 else words
        yield Stored(hashes[first:last], parent, piece, tier, salt)


def _keys(event: BlockStored) -> tuple[Mapping[int, str | None], Mapping[int, _Keys]]:
    """The salts by the blocks where they begin, and what else than its tokens a block is made of.

    A salt is None where it is to be inherited: behind a parent, and on other tiers, whose events leave the keys out.
    """
    told = event.extra_keys is not None or _tier(event) == "gpu"
    salts: dict[int, str | None] = {0: "" if told and event.parent_block_hash is None else None}
    others: dict[int, _Keys] = {}
    adapter = (event.lora_name,) if event.lora_name else ()
    if not adapter and not any(event.extra_keys or ()):
        return salts, others
    for block, entry in enumerate(event.extra_keys or repeat((), len(event.block_hashes))):
        keys = tuple(key for key in entry or () if key not in adapter)
        if keys[:1] == (_SEGMENT,):
            salts[block], keys = keys[1], keys[2:]
        elif not block and salts[0] == "":
            salts[0] = next((key for key in keys if isinstance(key, str)), "")
            keys = tuple(key for key in keys if key != salts[0])
        if adapter or keys:
            others[block] = adapter + keys
    return salts, others


def _covering(others: Mapping[int, _Keys], words: bytes, size: int) -> bytes:
    """The same words, but for blocks that are more than their tokens."""
    pieces = [words[at : at + size] for at in range(0, len(words), size)] if size else []
    for block, keys in others.items():
        if block < len(pieces):
            pieces[block] = words_beside(keys, pieces[block])
    return b"".join(pieces)
