"""Chat requests of an exact size: a few long beginnings that come again, each time with an ending of its own."""

import json
import random
import string
from collections.abc import Iterator
from itertools import cycle

_BEGINNINGS = 4  # conversations that go on side by side
_ENDING_DIGITS = 16


def bodies(model: str, size: int, seed: int) -> Iterator[bytes]:
    """Yield request bodies of `size` bytes without end; no two prompts are the same."""
    chance = random.Random(seed)
    empty = len(_body(model, ""))
    if size < empty + _ENDING_DIGITS:
        raise ValueError(f"a body takes at least {empty + _ENDING_DIGITS} bytes; got {size}")
    text = size - empty - _ENDING_DIGITS
    beginnings = ["".join(chance.choices(string.ascii_lowercase + " ", k=text)) for _ in range(_BEGINNINGS)]
    for beginning in cycle(beginnings):
        yield _body(model, f"{beginning}{chance.getrandbits(4 * _ENDING_DIGITS):0{_ENDING_DIGITS}x}")


def _body(model: str, content: str) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 1}).encode()
