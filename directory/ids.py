"""Who can hold blocks, and how near: the names the directory speaks in."""

import re
from enum import IntEnum
from typing import NewType

from .errors import BadHolder

HolderId = NewType("HolderId", str)  # a replica's data-parallel rank, or a store; becomes part of a Redis key
DomainTag = NewType("DomainTag", str)  # sixteen hex digits that tell domains apart and reveal neither tenant nor key

TAG_DIGITS = 16

_HOLDER = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Level(IntEnum):
    """Where a holder has a block, each level a union with those before it, so each is closed under prefixes."""

    NONE = 0
    GPU = 1
    CPU = 2  # gpu or cpu
    DISK = 3  # gpu, cpu or disk


LEVELS = (Level.GPU, Level.CPU, Level.DISK)


def holder_id(text: str) -> HolderId:
    """Check a holder's name before it becomes a key: lower-case letters, digits, dashes. Raises `BadHolder`."""
    if not _HOLDER.fullmatch(text):
        raise BadHolder(text)
    return HolderId(text)
