"""From one master key to every other key: the only place where a key is derived."""

import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .ids import DomainTag, HolderId

MASTER_BYTES = 32
NAME_BITS = 60  # what a Python int holds in two digits: a table of names is a third smaller than with 64

_PRF_BYTES = 32
_SEED_BYTES = 8
_TAG_BYTES = 8
_EPOCHS = 2  # of one domain key at hand: that which is, and that which ends
_NAME = (1 << NAME_BITS) - 1


@dataclass(frozen=True, slots=True)
class Domain:
    """The scope inside which cache may be shared; bound to an API key. A request can only make it narrower."""

    organisation: str
    workspace: str
    isolation_key: str = ""
    part: str = ""  # of it, where the tenant's own rule divides it by a field of the request
    salt_epoch: int = 0  # what was cached under another one is out of reach


@dataclass(frozen=True, slots=True)
class DomainKey:
    """What names the prefixes of one domain, for one model, adapter and block size, in one name epoch.

    A name is AES over a fingerprint of 16 bytes, cut to 60 bits: xxh3 is fast and no secret keeper, AES makes the
    name unguessable without the key. Fingerprints are blocks of their own, so ECB is the bare permutation that is
    wanted, and many are one call. The tag is the same in every epoch: it tells domains apart and nothing of prompts.
    """

    prf: bytes = field(repr=False)
    seed: int = field(repr=False)
    tag: DomainTag
    in_epoch: Callable[[int], "DomainKey"] = field(repr=False, compare=False)  # the same domain's key in another one
    _encrypt: Callable[[bytes], bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_encrypt", Cipher(AES256(self.prf), ECB()).encryptor().update)

    def name(self, fingerprint: bytes) -> int:
        """The name of one prefix, from the 16 bytes of its fingerprint."""
        return int.from_bytes(self._encrypt(fingerprint), "little") & _NAME

    def names(self, fingerprints: bytes) -> list[int]:
        """The names of many, from their fingerprints behind one another."""
        halves = struct.unpack(f"<{len(fingerprints) // 8}Q", self._encrypt(fingerprints))
        return [half & _NAME for half in halves[::2]]


class Keyring:
    """The master key and what is derived from it directly. Raises `ValueError` for a master key under 32 bytes.

    Where domains are not `isolated`, all have one salt, as if a leak had to be shown.
    """

    __slots__ = ("_isolated", "_master")

    def __init__(self, master: bytes, isolated: bool = True) -> None:
        if len(master) < MASTER_BYTES:
            raise ValueError(f"a master key has at least {MASTER_BYTES} bytes; got {len(master)}")
        self._master = master
        self._isolated = isolated

    def salt(self, domain: Domain) -> str:
        """The cache salt of a domain: 64 lower-case hex digits, whatever the domain is called."""
        domain = domain if self._isolated else Domain("", "")
        parts = (domain.organisation, domain.workspace, domain.isolation_key, domain.part, str(domain.salt_epoch))
        return hmac.new(self._master, _packed("kvplane salt", *parts), hashlib.sha256).hexdigest()

    def mac_key(self, holder: HolderId, epoch: int) -> bytes:
        """What a holder signs its page with during one epoch: 32 bytes."""
        return _derived(self._master, 32, "kvplane page", holder, str(epoch))

    def ticket_key(self) -> bytes:
        """What routers sign tickets with: 32 bytes."""
        return _derived(self._master, 32, "kvplane ticket")

    def operator_key(self) -> bytes:
        """What asks a running application how it is: 32 bytes."""
        return _derived(self._master, 32, "kvplane operator")


def domain_key(salt: str, model: str, adapter: str, block_tokens: int, name_epoch: int = 0) -> DomainKey:
    """Derive what names prefixes from the salt alone, so a replica can name only what it serves."""
    parts = (model, adapter, str(block_tokens))
    tag = hmac.digest(salt.encode(), _packed("kvplane domain tag", *parts), "sha256")[:_TAG_BYTES]
    in_epoch = partial(_epoch_key, salt.encode(), parts, DomainTag(tag.hex()))
    return in_epoch(name_epoch)


def _epoch_key(salt: bytes, parts: tuple[str, ...], tag: DomainTag, name_epoch: int) -> DomainKey:
    okm = _derived(salt, _PRF_BYTES + _SEED_BYTES, "kvplane domain", *parts, str(name_epoch))
    in_epoch = lru_cache(_EPOCHS)(partial(_epoch_key, salt, parts, tag))
    return DomainKey(okm[:_PRF_BYTES], int.from_bytes(okm[_PRF_BYTES:], "little"), tag, in_epoch)


def _derived(key: bytes, length: int, *info: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=_packed(*info)).derive(key)


def _packed(*parts: str) -> bytes:
    """Each part behind its length, so that no two lists of parts read the same."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
