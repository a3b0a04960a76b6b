"""Whether a router's mirror can hold what a whole fleet might: arithmetic before anything starts."""

from ..directory import NAME_BYTES
from .config import Settings


def misfit(settings: Settings, blocks: int) -> str | None:
    """Why a fleet of replicas with so many blocks each does not fit a mirror, at worst; None if it does.

    At worst no two replicas hold the same prefix, so that each block is a name of its own.
    """
    replicas = settings.replicas.max_count or settings.replicas.count
    worst_bytes, most_bytes = replicas * blocks * NAME_BYTES, settings.directory.mirror_bytes
    if worst_bytes <= most_bytes:
        return None
    return (
        f"{replicas:,} replicas of {blocks:,} blocks at {NAME_BYTES} bytes a block take {worst_bytes:,} bytes in each "
        f"router's mirror at worst, but directory.mirror_bytes allows {most_bytes:,}; raise it as far as the routers' "
        "memory goes, or have fewer replicas, fewer blocks or larger ones"
    )
