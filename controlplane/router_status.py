"""One router's part of `kvplane status`."""

from typing import Any

import msgspec

from ..directory import Seen


class RouterStatus(msgspec.Struct, frozen=True):
    """What a router sees, and how it fares."""

    router: str
    pid: int
    routing: str
    live: tuple[str, ...]
    pages: tuple[dict[str, Any], ...]  # Any: one page's numbers as plain values
    repeats: int
    declines: int  # tickets that replicas sent back, having more to do than was supposed
    failures: dict[str, int]
    mirror_errors: int
    misfit: str | None  # why the fleet at its worst does not fit this router's mirror
    probing: tuple[str, ...]  # tenants that share nothing public for the time being


def page_status(replica: str, seen: Seen | None) -> dict[str, Any]:
    """One page as a router has it."""
    if seen is None:
        return {"replica": replica, "page": "unread"}
    load = seen.load
    return {
        "replica": replica,
        "age_ms": seen.age_s * 1e3,
        "seq": seen.seq,
        "blocks": seen.blocks,
        "running": load.running_sequences,
        "waiting_tokens": load.waiting_prefill_tokens,
        "gaps": seen.gaps,
        "reloads": seen.reloads,
        "rejected": seen.rejected,
    }
