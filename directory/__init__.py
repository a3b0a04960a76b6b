"""Who holds what, for whom."""

from .account import Account, PageRead, Reading, account_of, reading
from .closure import Closure
from .connect import DirectorySettings, open_client, open_pages
from .digest import DIGEST_BYTES
from .embedded import EmbeddedShards
from .embedded_store import EmbeddedStore
from .errors import BadHolder, BadMessage, BadUrl, DirectoryError, PagesDown, ShardsDown
from .holdings import NAME_BYTES, Holdings
from .ids import LEVELS, DomainTag, HolderId, Level, holder_id
from .keys import Domain, DomainKey, Keyring, domain_key
from .mirror import Mirror, Seen
from .overlap import NO_OVERLAP, Overlap, Run
from .overlay import Overlay
from .page_reader import Place
from .pages import Appended, MemoryPages, Pages, PageSize
from .prefix import Prefix, Segment
from .redis_client import RedisClient, Script
from .shard_server import ShardHealth
from .trust import Trust
from .wire import Batch, Changes, Checkpoint, Load, Sealed, Served, seal, unseal

__all__ = [
    "DIGEST_BYTES", "LEVELS", "NAME_BYTES", "NO_OVERLAP", "Account", "Appended", "BadHolder", "BadMessage", "BadUrl",
    "Batch", "Changes", "Checkpoint", "Closure", "DirectoryError", "DirectorySettings", "Domain", "DomainKey",
    "DomainTag", "EmbeddedShards", "EmbeddedStore", "HolderId", "Holdings", "Keyring", "Level", "Load", "MemoryPages",
    "Mirror", "Overlap", "Overlay", "PageRead", "PageSize", "Pages", "PagesDown", "Place", "Prefix", "Reading",
    "RedisClient", "Run", "Script", "Sealed", "Seen", "Segment", "Served", "ShardHealth", "ShardsDown", "Trust",
    "account_of", "domain_key", "holder_id", "open_client", "open_pages", "reading", "seal", "unseal",
]  # fmt: skip
