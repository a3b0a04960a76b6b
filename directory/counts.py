"""How many stand at each level, packed in one integer: nearly always a small one, which costs no memory of its own."""

GONE = 4  # one level beyond the last: the greater of two levels is the one that counts

_BITS = 30  # what a Python int holds in one digit; an engine would have to tell a block a billion times to be misread
_MASK = (1 << _BITS) - 1

ONE = (0, 1, 1 << _BITS, 1 << 2 * _BITS, 0)  # what one more adds, by level
ALL = (0, _MASK, _MASK << _BITS, _MASK << 2 * _BITS, 0)  # where a level's count lies


def nearest(counts: int) -> int:
    """The nearest level that is not empty."""
    if counts & _MASK:
        return 1
    if counts & ALL[2]:
        return 2
    return 3 if counts else GONE
