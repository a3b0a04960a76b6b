"""From one master key to every other key: the only place where a key is derived."""

import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

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
_NAME = (1 << NAME_BITS) - 1


@dataclass(frozen=True, slots=True)
class Domain:
    """The scope inside which cache may be shared; bound to an API key. A request can only make it narrower."""

    organisation: str
    workspace: str
    isolation_key: str = ""
    part: str = ""  # of it, where the tenant's own rule divides it by a field of the request


@dataclass(frozen=True, slots=True)
class DomainKey:
    """What names the prefixes of one domain, for one model, adapter and block size.

    A name is AES over a fingerprint of 16 bytes, cut to 60 bits: xxh3 is fast and no secret keeper, AES makes the
    name unguessable without the key. Fingerprints are blocks of their own, so ECB is the bare permutation that is
    wanted, and many are one call.
    """

    prf: bytes = field(repr=False)
    seed: int = field(repr=False)
    tag: DomainTag
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

    def salt(self, domain: Domain, salt_epoch: int = 0) -> str:
        """The cache salt of a domain: 64 lower-case hex digits, whatever the domain is called."""
        domain = domain if self._isolated else Domain("", "")
        parts = (domain.organisation, domain.workspace, domain.isolation_key, domain.part, str(salt_epoch))
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
    info = ("kvplane domain", model, adapter, str(block_tokens), str(name_epoch))
    okm = _derived(salt.encode(), _PRF_BYTES + _SEED_BYTES + _TAG_BYTES, *info)
    prf, seed, tag = okm[:_PRF_BYTES], okm[_PRF_BYTES:-_TAG_BYTES], okm[-_TAG_BYTES:]
    return DomainKey(prf, int.from_bytes(seed, "little"), DomainTag(tag.hex()))


def _derived(key: bytes, length: int, *info: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=_packed(*info)).derive(key)


def _packed(*parts: str) -> bytes:
    """Each part behind its length, so that no two lists of parts read the same."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
