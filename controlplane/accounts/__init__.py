"""Who may ask, and how much; kept in a store of its own."""

from .contract import Buckets, Lease, Publishing, Rate, Registry
from .reader import BookReader
from .tenant import EVERYONE, NO_BOOK, Book, Caller, KeyRecord, OverLimit, PublicPrefix, Rules, Tenant, digest_of
from .tenants_file import TenantKeys, first_keys, new_key, parse_tenants, record_of, take_in, write_example

__all__ = [
    "EVERYONE", "NO_BOOK", "Book", "BookReader", "Buckets", "Caller", "KeyRecord", "Lease", "OverLimit",
    "PublicPrefix", "Publishing", "Rate", "Registry", "Rules", "Tenant", "TenantKeys", "digest_of", "first_keys",
    "new_key", "parse_tenants", "record_of", "take_in", "write_example",
]  # fmt: skip
