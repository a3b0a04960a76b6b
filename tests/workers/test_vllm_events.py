"""What vLLM tells, in either encoding: of salts, tiers, groups of layers, and of blocks that are no mere text."""

import struct
from collections.abc import Sequence

import msgspec
import pytest

from kvplane.workers.engine import EVERY, Cleared, EngineEvent, Removed, Stored, WindowsRemoved, WindowsStored
from kvplane.workers.vllm_events import (
    AllBlocksCleared,
    BlockRemoved,
    BlockStored,
    EventBatch,
    VllmEvent,
    VllmEvents,
    decode,
    segment_key,
)

HASH = "ab" * 32  # an image's looks like a salt
DIGEST = bytes(range(32))


def told(*events: VllmEvent) -> Sequence[EngineEvent]:
    return decode(msgspec.msgpack.encode(EventBatch(0.0, events)))


def stored(parent: int | None, *extra_keys: tuple[object, ...] | None, adapter: str | None = None) -> BlockStored:
    hashes = tuple(range(10, 10 + len(extra_keys)))
    return BlockStored(
        block_hashes=hashes,
        parent_block_hash=parent,
        token_ids=tuple(range(2 * len(hashes))),
        block_size=2,
        medium="GPU",
        lora_name=adapter,
        extra_keys=extra_keys,
    )


def words(*tokens: int) -> bytes:
    return struct.pack(f"<{len(tokens)}I", *tokens)


def salts_and_words(event: BlockStored) -> tuple[str | None, bytes]:
    (only,) = told(event)
    assert isinstance(only, Stored)
    return only.salt, only.words


@pytest.mark.parametrize("block", [2**64 - 1, DIGEST])
def test_events_are_read_as_maps_or_as_arrays_with_hashes_of_either_kind(block: int | bytes) -> None:
    maps = [
        {"type": "BlockStored", "block_hashes": [block], "parent_block_hash": 7, "token_ids": [5, 6], "block_size": 2},
        {"type": "BlockRemoved", "block_hashes": [block], "medium": "CPU", "ownership": "a field yet to come"},
        {"type": "AllBlocksCleared"},
    ]
    arrays = [
        ["BlockStored", [block], 7, [5, 6], 2, None],
        ["BlockRemoved", [block], "CPU", None, "a field yet to come"],
        ["AllBlocksCleared"],
    ]

    for events in (maps, arrays):
        read = decode(msgspec.msgpack.encode([1.5, events, 0]))
        assert read == [Stored((block,), 7, words(5, 6), "gpu"), Removed((block,), "cpu"), Cleared()]


def test_what_is_no_batch_of_events_is_refused() -> None:
    for payload in ([1.5, [["BlockLent", [1]]]], [1.5, [["BlockStored", [1], None, [-1], 1, None]]]):
        with pytest.raises(msgspec.MsgspecError):
            decode(msgspec.msgpack.encode(payload))


def test_an_images_hash_or_an_adapters_name_is_no_salt() -> None:
    opening = told(stored(None, ("ad", ("image", 3), "salt"), ("ad", HASH), ("ad",), None, adapter="ad"))
    behind = told(stored(13, (HASH,), None))

    assert [(event.salt, event.hashes) for event in opening if isinstance(event, Stored)] == [
        ("salt", (10, 11, 12, 13)),
    ]
    assert [(event.salt, event.parent, event.hashes) for event in behind if isinstance(event, Stored)] == [
        (None, 13, (10, 11)),
    ]


def test_a_block_with_an_image_in_it_has_words_of_its_own() -> None:
    plain = salts_and_words(stored(None, ("salt",), None))
    one = salts_and_words(stored(None, ("salt",), (("image 1", 0),)))
    other = salts_and_words(stored(None, ("salt",), (("image 2", 0),)))

    assert plain == ("salt", words(0, 1, 2, 3))
    assert one[1][:8] == other[1][:8] == words(0, 1)
    assert len({each[1][8:] for each in (plain, one, other)}) == 3
    assert one == salts_and_words(stored(None, ("salt",), (("image 1", 0),)))


def test_an_adapters_blocks_have_words_of_their_own_however_they_are_told() -> None:
    keyed = salts_and_words(stored(None, ("ad", "salt"), ("ad",), adapter="ad"))
    by_name = salts_and_words(stored(None, ("salt",), None, adapter="ad"))

    assert keyed == by_name
    assert keyed[1][:8] != words(0, 1)
    assert keyed[1][8:] != words(2, 3)


def test_each_segment_that_begins_is_told_of_by_itself() -> None:
    salts = ("public", "", "", "own", "")
    events = told(stored(None, *(segment_key(salt, block) for block, salt in enumerate(salts))))

    assert [(event.salt, event.parent, event.hashes) for event in events if isinstance(event, Stored)] == [
        ("public", None, (10, 11, 12)),
        ("own", 12, (13, 14)),
    ]
    assert [len(event.words) for event in events if isinstance(event, Stored)] == [3 * 2 * 4, 2 * 2 * 4]
    assert told(stored(9, segment_key("own", 3))) == [Stored((10,), 9, words(0, 1), "gpu", "own")]


def test_an_opening_block_has_no_salt_unless_its_event_leaves_the_keys_out() -> None:
    def salt(medium: str | None, keys: tuple[None] | None) -> str | None:
        event = BlockStored(block_hashes=(1,), token_ids=(5, 6), block_size=2, medium=medium, extra_keys=keys)
        return salts_and_words(event)[0]

    assert salt("GPU", (None,)) == salt("GPU", None) == salt(None, None) == salt("CPU", (None,)) == ""
    assert salt("CPU", None) is salt("STORAGE", None) is None


def test_media_that_are_unknown_or_elsewhere_are_left_out() -> None:
    media = ("GPU", "CPU", "STORAGE", "DISK", "CLOUD")
    removals = told(*(BlockRemoved(block_hashes=(1,), medium=medium) for medium in media))

    assert [event.tier for event in removals if isinstance(event, Removed)] == [
        "gpu",
        "cpu",
        "disk",
        "disk",
    ]
    assert told(BlockRemoved(block_hashes=(1,), medium="CPU", locality="REMOTE")) == []


def test_the_first_group_that_looks_back_at_all_is_the_chain_and_others_are_windows() -> None:
    events = VllmEvents()

    def read(event: VllmEvent) -> Sequence[EngineEvent]:
        return events.read(msgspec.msgpack.encode(EventBatch(0.0, (event,))))

    def store(group: int, kind: str, window: int | None = None) -> Sequence[EngineEvent]:
        return read(
            BlockStored(
                block_hashes=(1, 2),
                token_ids=(5, 6, 7, 8),
                block_size=2,
                group_idx=group,
                kv_cache_spec_kind=kind,
                kv_cache_spec_sliding_window=window,
            )
        )

    assert store(0, "sliding_window", 8) == [WindowsStored((1, 2), 0, 4)]  # seven tokens before the next one
    assert store(1, "sliding_window_mla", 7) == [WindowsStored((1, 2), 1, 3)]
    assert store(2, "full_attention") == [Stored((1, 2), None, words(5, 6, 7, 8), "gpu", "")]
    assert store(3, "mamba") == [WindowsStored((1, 2), 3, 1)]
    assert store(4, "mla_attention") == [WindowsStored((1, 2), 4, EVERY)]
    assert store(5, "chunked_local_attention") == [WindowsStored((1, 2), 5, EVERY)]
    assert store(2, "full_attention") == [Stored((1, 2), None, words(5, 6, 7, 8), "gpu", "")]
    offloaded = BlockStored(block_hashes=(1,), token_ids=(), block_size=0, medium="CPU", group_idx=0)
    assert read(offloaded) == [WindowsStored((1,), 0, 4, "cpu")]
    assert [read(BlockRemoved(block_hashes=(1,), group_idx=group)) for group in (0, 2, 4)] == [
        [WindowsRemoved((1,), 0)],
        [Removed((1,))],
        [WindowsRemoved((1,), 4)],
    ]
    assert read(AllBlocksCleared()) == [Cleared()]
