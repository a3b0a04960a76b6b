"""What an accounts store refuses, in the words that every implementation uses."""

import math
import re

from ..errors import ConfigError
from .tenant import KeyRecord

_NAME_CHARACTERS = 256
_LONGEST_CLAIM_S = 86_400.0
_KEY_ID = re.compile(r"[0-9a-f]{1,64}")


def no_such_tenant(key: KeyRecord) -> ConfigError:
    return ConfigError(f"a key speaks for a tenant that is there; {key.tenant!r} is not: add it first")


def anothers_key(key: KeyRecord) -> ConfigError:
    return ConfigError(
        f"key {key.id} speaks for another tenant than {key.tenant!r}: revoke it first, or make a new one"
    )


def several_keys(key_id: str, count: int) -> ConfigError:
    return ConfigError(f"one key is revoked at a time; {count} have an id that begins with {key_id!r}: give more of it")


def epoch_ends_still() -> ConfigError:
    return ConfigError("one name epoch begins at a time, and the last one is yet to take over: wait until it has")


def check_key_id(key_id: str) -> None:
    """Raises `ConfigError` for what no digest begins with, and for nothing, with which every one does."""
    if not _KEY_ID.fullmatch(key_id):
        raise ConfigError(f"a key's id is 1 to 64 of the digits 0-9 and a-f; got {key_id[:80]!r}")


def check_lease(bucket: str, need: float, want: float) -> None:
    _check_name(bucket)
    if not 0 <= need <= want < math.inf:
        raise ValueError(f"a lease is of `need` units or more and of `want` at most; got {need} and {want}")


def check_units(bucket: str, units: float) -> None:
    _check_name(bucket)
    if not math.isfinite(units):
        raise ValueError(f"a finite number of units is given back; got {units}")


def check_claim(name: str, router: str, wanted: int, ttl_s: float) -> None:
    _check_name(name)
    _check_name(router)
    if not (wanted >= 0 and 0 < ttl_s <= _LONGEST_CLAIM_S):
        raise ValueError(f"places, 0 or more, are claimed for up to {_LONGEST_CLAIM_S} s; got {wanted} for {ttl_s} s")


def _check_name(name: str) -> None:
    if not 0 < len(name) <= _NAME_CHARACTERS:
        raise ValueError(
            f"buckets and routers have names of 1 to {_NAME_CHARACTERS} characters; got {len(name)}: {name[:80]!r}"
        )
