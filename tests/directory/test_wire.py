"""What crosses Redis is believed only if its holder signed it, for this holder, epoch and seq."""

from array import array

import msgspec
import pytest

from kvplane.directory import (
    BadHolder,
    BadMessage,
    Batch,
    Changes,
    Checkpoint,
    Load,
    Sealed,
    Served,
    holder_id,
    seal,
    unseal,
)

KEY = b"k" * 32
SERVED = Served("d-1", "router-a", "stop", 100, 64, 5, 1.5, 2.5, 40.0)
NAMES = array("Q", [1, (1 << 60) - 1]).tobytes()
CHANGES = (Changes("ab" * 8, 1, NAMES), Changes("ab" * 8, 2, NAMES, resume=0))
BATCH = Batch("r-0", 3, 7, Load(1, 2, 3, 4, 5, {"router-a": 6}), CHANGES, (SERVED,), b"d" * 48)


@pytest.mark.parametrize("message", [BATCH, Checkpoint("r-0", 3, 7, Load(), BATCH.changes)])
def test_a_message_comes_back_as_it_was_sealed(message: Batch | Checkpoint) -> None:
    sealed = seal(message, KEY)

    assert unseal(sealed, KEY) == message
    assert (sealed.holder, sealed.epoch, sealed.seq) == ("r-0", 3, 7)
    assert SERVED.ttft_ms == 4.0


@pytest.mark.parametrize("field, value", [("holder", "r-1"), ("epoch", 4), ("seq", 8)])
def test_a_message_filed_under_other_numbers_is_rejected(field: str, value: object) -> None:
    with pytest.raises(BadMessage, match="filed under another"):
        unseal(msgspec.structs.replace(seal(BATCH, KEY), **{field: value}), KEY)


def test_no_flipped_bit_is_accepted() -> None:
    sealed = seal(BATCH, KEY)

    for position in range(len(sealed.body)):
        body = bytearray(sealed.body)
        body[position] ^= 1
        with pytest.raises(BadMessage):
            unseal(Sealed(sealed.holder, sealed.epoch, sealed.seq, bytes(body)), KEY)


@pytest.mark.parametrize(
    "message, match",
    [
        (msgspec.structs.replace(BATCH, version=1), "schema version 1"),
        (msgspec.structs.replace(BATCH, changes=(Changes("ab" * 8, 1, b"123"),)), "whole uint64s"),
        (msgspec.structs.replace(BATCH, changes=(Changes("ab" * 8, 4, b""),)), "level of 0 to 3"),
        (msgspec.structs.replace(BATCH, changes=(Changes("ab" * 8, 1, b"", resume=4),)), "level of 0 to 3"),
        (msgspec.structs.replace(BATCH, changes=(Changes("t", 1, b""),)), "a domain tag has 16 digits"),
        (msgspec.structs.replace(BATCH, changes=(Changes("ab" * 8, 1, b"\xff" * 8),)), "a name has 60 bits"),
        (msgspec.structs.replace(BATCH, digest=b"short"), "a digest has 48 bytes"),
        (msgspec.structs.replace(BATCH, load=Load(waiting_prefill_tokens=-1)), "a load counts"),
        (msgspec.structs.replace(BATCH, load=Load(waiting_sequences=-1)), "a load counts"),
        (msgspec.structs.replace(BATCH, served=(msgspec.structs.replace(SERVED, queue_ms=float("nan")),)), "outcome"),
        (msgspec.structs.replace(BATCH, served=(msgspec.structs.replace(SERVED, total_ms=float("inf")),)), "outcome"),
        (msgspec.structs.replace(BATCH, served=(msgspec.structs.replace(SERVED, cached_tokens=-1),)), "outcome"),
        (msgspec.structs.replace(BATCH, served=(msgspec.structs.replace(SERVED, step_tokens=1 << 48),)), "outcome"),
    ],
)
def test_a_signed_message_out_of_bounds_is_rejected(message: Batch, match: str) -> None:
    with pytest.raises(BadMessage, match=match):
        unseal(seal(message, KEY), KEY)


def test_bytes_that_are_no_message_are_rejected_though_signed() -> None:
    sealed = seal(BATCH, KEY)

    with pytest.raises(BadMessage):
        unseal(msgspec.structs.replace(sealed, body=b""), KEY)


@pytest.mark.parametrize("name", ["", "-a", "A", "a" * 64, "a:b", "{a}", "a\n"])
def test_a_holder_that_must_not_become_a_redis_key_is_refused(name: str) -> None:
    with pytest.raises(BadHolder, match="a holder is named by"):
        holder_id(name)
