"""What can go wrong in the directory.

DirectoryError
├── BadHolder        a name that must not become a Redis key
├── BadMessage       a batch or checkpoint that cannot be trusted; it changes nothing
├── PagesDown        the store of pages does not answer
│   └── SlotMoves    its cluster moves the keys just now
├── BadUrl           a directory URL that names no store
└── ShardsDown       the embedded servers cannot be started
"""


class DirectoryError(Exception):
    """Anything the directory raises."""


class BadHolder(DirectoryError):
    """A holder name outside `[a-z0-9][a-z0-9-]{0,62}`."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"a holder is named by up to 63 lower-case letters, digits and dashes; got {self.name[:80]!r}"


class BadMessage(DirectoryError):
    """Bytes of a page that are malformed, unsigned, of an unknown version or out of bounds."""


class PagesDown(DirectoryError):
    """The store of pages does not answer; what is known stays in use."""


class SlotMoves(PagesDown):
    """Some keys of one hash tag are on the node that has them moved, others on the one that gets them."""


class BadUrl(DirectoryError):
    """A directory URL with a scheme other than redis, rediss, redis+cluster, rediss+cluster."""


class ShardsDown(DirectoryError):
    """The embedded servers cannot be started, or their folder serves another process."""
