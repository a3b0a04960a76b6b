"""The words of a block that is more than its tokens: an adapter's, or one with an image in it."""

import hashlib

import msgspec


def words_beside(keys: tuple[object, ...], words: bytes) -> bytes:
    """As many words that no text has, the same for the same keys and tokens."""
    return hashlib.shake_128(msgspec.msgpack.encode(keys) + words).digest(len(words))
