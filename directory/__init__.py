"""Who holds what, for whom."""

from .closure import Closure
from .connect import DirectorySettings, open_pages
from .embedded import EmbeddedShards
from .errors import BadHolder, BadMessage, BadUrl, DirectoryError, PagesDown, ShardsDown
from .holdings import Holdings
from .ids import LEVELS, DomainTag, HolderId, Level, holder_id
from .keys import Domain, DomainKey, Keyring, domain_key
from .mirror import Mirror, Seen
from .overlap import NO_OVERLAP, Overlap, Run
from .overlay import Overlay
from .pages import Appended, MemoryPages, Pages
from .prefix import Prefix, Segment
from .shard_server import ShardHealth
from .wire import Batch, Changes, Checkpoint, Load, Sealed, Served, seal, unseal

__all__ = [
    "LEVELS", "NO_OVERLAP", "Appended", "BadHolder", "BadMessage", "BadUrl", "Batch", "Changes", "Checkpoint",
    "Closure", "DirectoryError", "DirectorySettings", "Domain", "DomainKey", "DomainTag", "EmbeddedShards", "HolderId",
    "Holdings", "Keyring", "Level", "Load", "MemoryPages", "Mirror", "Overlap", "Overlay", "Pages", "PagesDown",
    "Prefix", "Run", "Sealed", "Seen", "Segment", "Served", "ShardHealth", "ShardsDown", "domain_key", "holder_id",
    "open_pages", "seal", "unseal",
]  # fmt: skip
