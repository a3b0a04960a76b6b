"""Everything that crosses Redis: one schema, versioned, signed by the holder it speaks of."""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Literal

import msgspec
import numpy as np

from .digest import DIGEST_BYTES
from .errors import BadMessage
from .ids import TAG_DIGITS, HolderId
from .keys import NAME_BITS

VERSION = 2
MAX_BODY_BYTES = 64 << 20  # a checkpoint of 8M names
_MAC_BYTES = 16

Finish = Literal["stop", "length", "cancelled", "failed"]


class Load(msgspec.Struct, array_like=True, frozen=True):
    """What a holder has to do, as counted by its engine when the batch was made."""

    waiting_prefill_tokens: int = 0  # prompt tokens admitted or queued whose KV is not computed yet
    running_sequences: int = 0
    decode_blocks: int = 0  # blocks held by running sequences
    free_blocks: int = 0  # blocks a new sequence could take, cached ones included
    total_blocks: int = 0
    counted: dict[str, int] = {}  # per router: the highest ticket number this load accounts for
    waiting_sequences: int = 0  # requests, admitted or queued, that have not got their first token


class Changes(msgspec.Struct, array_like=True, frozen=True):
    """Names of one domain that now stand at one level (0: gone); absolute, so the last one wins."""

    tag: str
    level: int
    names: bytes  # little-endian uint64, packed, each below 2 ** 60 and once
    resume: int | None = None  # hybrid models: the level at which the sliding windows stand too, 0: nowhere


class Served(msgspec.Struct, array_like=True, frozen=True):
    """How one ticket ended, told to every router by the replica that served it."""

    decision: str
    router: str
    finish: Finish
    prompt_tokens: int
    cached_tokens: int  # as the engine reports it
    output_tokens: int
    queue_ms: float  # arrival at the replica to the first prefill step
    prefill_ms: float  # first prefill step to first token
    total_ms: float  # arrival to the last token
    steps: int = 0  # of the engine, from the first prefill step to the first token; 0: it does not tell
    step_tokens: int = 0  # prompt tokens computed in those steps, other requests' included

    @property
    def ttft_ms(self) -> float:
        return self.queue_ms + self.prefill_ms


class Batch(msgspec.Struct, array_like=True, frozen=True, tag="b"):
    """One entry of a page's log. An empty batch is a heartbeat."""

    holder: str
    epoch: int
    seq: int
    load: Load
    changes: tuple[Changes, ...] = ()
    served: tuple[Served, ...] = ()
    digest: bytes = b""  # of the whole holding after this batch (`digest.py`); empty: not told
    version: int = VERSION


class Checkpoint(msgspec.Struct, array_like=True, frozen=True, tag="c"):
    """A holder's whole holding as of `seq`; replaces all that was said before."""

    holder: str
    epoch: int
    seq: int
    load: Load
    changes: tuple[Changes, ...] = ()
    digest: bytes = b""
    version: int = VERSION


Message = Batch | Checkpoint


class Sealed(msgspec.Struct, frozen=True):
    """A signed message as a store of pages keeps it: the numbers it is ordered by, and the bytes."""

    holder: HolderId
    epoch: int
    seq: int
    body: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Batch | Checkpoint).decode


def seal(message: Message, key: bytes) -> Sealed:
    """Encode and sign a message. `key` is the holder's own for this epoch (`keys.mac_key`)."""
    body = _encode(message)
    return Sealed(HolderId(message.holder), message.epoch, message.seq, _mac(body, key) + body)


def unseal(sealed: Sealed, key: bytes) -> Message:
    """Verify and decode; the numbers outside must be those inside. Raises `BadMessage`."""
    if len(sealed.body) > MAX_BODY_BYTES:
        raise BadMessage(f"{sealed.holder}: {len(sealed.body)} bytes; at most {MAX_BODY_BYTES} are accepted")
    mac, body = sealed.body[:_MAC_BYTES], sealed.body[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(body, key)):
        raise BadMessage(f"{sealed.holder} epoch {sealed.epoch} seq {sealed.seq}: the signature does not verify")
    try:
        message: Message = _decode(body)
    except msgspec.MsgspecError as exc:
        raise BadMessage(f"{sealed.holder}: {exc}") from exc
    _check(message, sealed)
    return message


def names_of(changes: Changes) -> memoryview:
    """The packed names as a read-only view of uint64; costs no copy."""
    return memoryview(changes.names).cast("Q")


def _check(message: Message, sealed: Sealed) -> None:
    if message.version != VERSION:
        raise BadMessage(f"{sealed.holder}: schema version {message.version}; this build reads {VERSION}")
    if (message.holder, message.epoch, message.seq) != (sealed.holder, sealed.epoch, sealed.seq):
        raise BadMessage(f"{sealed.holder}: filed under another holder, epoch or seq than it was signed for")
    for change in message.changes:
        _check_change(change, sealed.holder)
    if len(message.digest) not in (0, DIGEST_BYTES):
        raise BadMessage(f"{sealed.holder}: a digest has {DIGEST_BYTES} bytes; got {len(message.digest)}")
    load = message.load
    counts: Iterable[int] = (
        load.waiting_prefill_tokens,
        load.running_sequences,
        load.decode_blocks,
        load.free_blocks,
        load.total_blocks,
        load.waiting_sequences,
    )
    if any(not 0 <= count < 1 << 48 for count in counts):
        raise BadMessage(f"{sealed.holder}: a load counts tokens, sequences and blocks; got {load}")
    for served in message.served if isinstance(message, Batch) else ():
        _check_served(served, sealed.holder)


def _check_change(change: Changes, holder: HolderId) -> None:
    if len(change.names) % 8 or not 0 <= change.level <= 3 or (change.resume or 0) not in range(4):
        raise BadMessage(f"{holder}: names are whole uint64s at a level of 0 to 3")
    if len(change.tag) != TAG_DIGITS:
        raise BadMessage(f"{holder}: a domain tag has {TAG_DIGITS} digits; got {change.tag[:40]!r}")
    if change.names and int(np.frombuffer(change.names, "<u8").max()) >> NAME_BITS:
        raise BadMessage(f"{holder}: a name has {NAME_BITS} bits")


def _check_served(served: Served, holder: HolderId) -> None:
    counts = (
        served.prompt_tokens,
        served.cached_tokens,
        served.output_tokens,
        served.steps,
        served.step_tokens,
    )
    times_ms = (served.queue_ms, served.prefill_ms, served.total_ms)
    if any(not 0 <= count < 1 << 48 for count in counts) or any(not 0 <= time_ms < 1e12 for time_ms in times_ms):
        raise BadMessage(f"{holder}: an outcome counts tokens and milliseconds; got {served}")


def _mac(body: bytes, key: bytes) -> bytes:
    return hashlib.blake2b(body, key=key, digest_size=_MAC_BYTES).digest()
