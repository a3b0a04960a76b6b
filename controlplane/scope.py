"""What of a request's own fields bears on its cache: never whose it is, at most which part of that."""

import xxhash

from ..directory import Domain
from .accounts import Caller
from .openai import Asking


def part_of(caller: Caller, asking: Asking) -> str | None:
    """The part of its domain that a request belongs to; None where the tenant's rule divides it by nothing."""
    field = caller.tenant.rules.subdivide_by
    part: str | None = getattr(asking, field) if field else None
    return part


def affinity_of(domain: Domain, cache_key: str | None) -> int:
    """A number for what should stay together, the same in each router; 0: nothing known."""
    if not cache_key:
        return 0
    parts = (domain.organisation, domain.workspace, domain.isolation_key, domain.part, cache_key)
    text = b"".join(len(part.encode()).to_bytes(4, "little") + part.encode() for part in parts)
    return xxhash.xxh3_64_intdigest(text) >> 1
