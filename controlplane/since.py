"""Moments as people write them."""

from datetime import UTC, datetime, timedelta

import typer

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def epoch(since: str) -> float:
    """A moment as Unix time: an ISO time, or a span back from this moment. Raises `typer.BadParameter`."""
    try:
        if since[-1:] in _UNITS:
            return (datetime.now(UTC) - timedelta(**{_UNITS[since[-1]]: float(since[:-1])})).timestamp()
        return datetime.fromisoformat(since).timestamp()
    except ValueError as exc:
        raise typer.BadParameter(f"a moment is 30s, 10m, 2h, 1d or an ISO time; got {since!r}") from exc
