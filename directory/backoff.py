"""How long to wait before trying again."""

from collections.abc import Iterator


def delays(first_s: float, most_s: float) -> Iterator[float]:
    """Seconds to wait, doubling from `first_s` and never above `most_s`, without end."""
    delay_s = first_s
    while True:
        yield delay_s
        delay_s = min(most_s, 2 * delay_s)
