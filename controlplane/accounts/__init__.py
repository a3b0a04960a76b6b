"""Who may ask, and how much; kept in a store of its own."""

from .contract import Buckets, Lease, Rate, Registry
from .tenant import NO_BOOK, Book, Caller, KeyRecord, OverLimit, Rules, Tenant, digest_of

__all__ = [
    "NO_BOOK", "Book", "Buckets", "Caller", "KeyRecord", "Lease", "OverLimit", "Rate", "Registry", "Rules", "Tenant",
    "digest_of",
]  # fmt: skip
