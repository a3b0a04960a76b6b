"""Sizes as people write them on the command line: 4k tokens are 4,096, 1M blocks are a million."""

from .errors import BenchError

_THOUSANDS = {"k": 1, "M": 2}


def sizes(text: str, kilo: int, least: int = 0, most: int = 1 << 40) -> tuple[int, ...]:
    """Read a list like `8,64` or `100k,1M`, where k is `kilo` and M its square. Raises `BenchError`."""
    return tuple(size(part.strip(), kilo, least, most) for part in text.split(","))


def size(text: str, kilo: int, least: int = 0, most: int = 1 << 40) -> int:
    """Read one size within bounds. Raises `BenchError`."""
    digits, unit = (text[:-1], text[-1]) if text[-1:] in _THOUSANDS else (text, "")
    if not digits.isdecimal():
        raise BenchError(f"a size is a number, perhaps with k or M behind it; got {text!r}")
    unit_size: int = kilo ** _THOUSANDS.get(unit, 0)
    found = int(digits) * unit_size
    if not least <= found <= most:
        raise BenchError(f"this size is {least} to {shown(most, kilo)}; got {text!r}")
    return found


def shown(size: int, kilo: int) -> str:
    """The shortest way to write a size."""
    for unit, power in reversed(_THOUSANDS.items()):
        if size and size % kilo**power == 0:
            return f"{size // kilo**power}{unit}"
    return str(size)
