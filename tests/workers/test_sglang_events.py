"""What SGLang's events say, in a capture made by hand."""

import struct
from collections.abc import Mapping, Sequence

import msgspec
import pytest

from kvplane.workers.engine import Cleared, EngineEvent, Removed, Stored
from kvplane.workers.sglang_events import decode


def told(*events: Mapping[str, object]) -> Sequence[EngineEvent]:
    return decode(msgspec.msgpack.encode([1795489620.1, events, 0]))


def stored(parent: int | None, **fields: object) -> Mapping[str, object]:
    hashes, tokens = [-3, 4], [7, 8, 9, 10]
    return {
        "type": "BlockStored",
        "block_hashes": hashes,
        "parent_block_hash": parent,
        "token_ids": tokens,
        "block_size": 2,
        "lora_id": None,
        "medium": "GPU",
        **fields,
    }


def words(event: EngineEvent) -> bytes:
    assert isinstance(event, Stored)
    return event.words


def test_hashes_are_signed_and_a_run_carries_its_salt() -> None:
    events = told(
        {"type": "AllBlocksCleared"},
        stored(None, cache_salt="tenant", session_id="s1"),
        stored(4, cache_salt="tenant"),
        {"type": "BlockRemoved", "block_hashes": [-3, 4], "medium": "GPU"},
    )

    tokens = struct.pack("<4I", 7, 8, 9, 10)
    assert events == [
        Cleared(),
        Stored((-3, 4), None, tokens, "gpu", "tenant"),
        Stored((-3, 4), 4, tokens, "gpu", "tenant"),
        Removed((-3, 4), "gpu"),
    ]


def test_without_a_salt_a_run_opens_no_domain_but_inherits_or_on_the_gpu_has_none() -> None:
    events = told(stored(None), stored(4), stored(None, medium="CPU_PINNED"))

    assert [(event.salt, event.tier) for event in events if isinstance(event, Stored)] == [
        ("", "gpu"),
        (None, "gpu"),
        (None, "cpu"),
    ]


def test_tiers_are_read_by_their_media_and_shared_stores_are_left_out() -> None:
    media = ("GPU", "CPU_PINNED", "DISK", "EXTERNAL", "TAPE")
    stores = told(*(stored(None, medium=medium) for medium in media))
    removals = told(*({"type": "BlockRemoved", "block_hashes": [1], "medium": medium} for medium in media))

    assert [event.tier for event in stores if isinstance(event, Stored)] == ["gpu", "cpu", "disk"]
    assert removals == [Removed((1,), "gpu"), Removed((1,), "cpu"), Removed((1,), "disk")]


def test_an_adapters_blocks_have_words_of_their_own_wherever_a_run_begins() -> None:
    (plain, whole, tail) = told(
        stored(None),
        stored(None, lora_id="ad"),
        {**stored(-3, lora_id="ad"), "block_hashes": [4], "token_ids": [9, 10]},
    )

    assert words(whole)[8:] == words(tail)
    assert words(whole)[:8] != words(plain)[:8]
    assert words(whole)[8:] != words(plain)[8:]


def test_what_is_no_batch_of_events_is_refused() -> None:
    with pytest.raises(msgspec.MsgspecError):
        told({"type": "BlockLent", "block_hashes": [1]})
