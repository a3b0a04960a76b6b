"""`kvplane directory stats`, as the routers tell it: what is held where and for whom, what it costs, how mirrors do."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from ..directory import LEVELS, DomainTag, HolderId, Holdings, Level, Mirror, PageSize

K = TypeVar("K")
_Held = tuple[HolderId, DomainTag, Level]
Tally = Mapping[_Held, int]
Row = dict[str, Any]  # Any: plain values, as JSON has them


class MirroredPage(msgspec.Struct, frozen=True):
    """One page as one mirror sees it. `behind`: batches it heard of and has not taken in."""

    replica: HolderId
    epoch: int
    seq: int
    blocks: int
    age_ms: float
    behind: int
    gaps: int
    reloads: int
    rejected: int
    mismatches: int
    implausible: int
    hasty: int
    aside: bool


class MirrorReport(msgspec.Struct, frozen=True):
    """One router's mirror. `most_bytes`: what the settings let it grow to."""

    router: str
    table_bytes: int
    most_bytes: int
    errors: int
    unread: tuple[HolderId, ...]
    pages: tuple[MirroredPage, ...]


def mirror_report(
    router: str, mirror: Mirror, holdings: Holdings, live: Collection[HolderId], most_bytes: int
) -> MirrorReport:
    """What a router says of its mirror; costs a pass over the table."""
    pages = {holder: _page(holder, mirror) for holder in sorted(live)}
    unread = tuple(holder for holder, page in pages.items() if page is None)
    read = tuple(page for page in pages.values() if page is not None)
    return MirrorReport(router, holdings.bytes, most_bytes, mirror.errors, unread, read)


def stats(
    tally: Tally,
    live: Collection[HolderId],
    sizes: Mapping[HolderId, PageSize],
    tenants: Mapping[DomainTag, str],
    mirrors: Sequence[MirrorReport],
) -> Row:
    """All tables of the command. Bytes are None for a page that could not be measured."""
    held = _grouped(tally, lambda key: key[0])
    replicas = [_replica(each, each in live, held[each], sizes.get(each)) for each in sorted({*live, *held})]
    return {
        "shards": _shards(replicas),
        "replicas": replicas,
        "levels": _levels(tally),
        "tenants": _tenants(tally, tenants),
        "routers": [msgspec.to_builtins(mirror) for mirror in mirrors],
    }


def _page(holder: HolderId, mirror: Mirror) -> MirroredPage | None:
    seen = mirror.seen(holder)
    if seen is None:
        return None
    return MirroredPage(
        replica=holder,
        epoch=seen.epoch,
        seq=seen.seq,
        blocks=seen.blocks,
        age_ms=seen.age_s * 1e3,
        behind=seen.behind,
        gaps=seen.gaps,
        reloads=seen.reloads,
        rejected=seen.rejected,
        mismatches=seen.mismatches,
        implausible=seen.implausible,
        hasty=seen.hasty,
        aside=seen.aside,
    )


def _replica(holder: HolderId, live: bool, names: Counter[Level], size: PageSize | None) -> Row:
    row: Row = {"replica": holder, "live": live, **_blocks(names)}
    if size is None:
        return {**row, "shard": None, "node": None, "log_bytes": None, "checkpoint_bytes": None, "bytes": None}
    return {
        **row,
        "shard": size.shard,
        "node": size.node,
        "log_bytes": size.log_bytes,
        "checkpoint_bytes": size.checkpoint_bytes,
        "bytes": size.bytes,
    }


def _shards(replicas: Iterable[Row]) -> list[Row]:
    """Logical shards with a page on them, and the node that keeps each."""
    shards: dict[tuple[int, str], Row] = {}
    for row in replicas:
        if row["shard"] is not None:
            place = (row["shard"], row["node"])
            empty = {"shard": place[0], "node": place[1], "pages": 0, "blocks": 0, "bytes": 0}
            shard = shards.setdefault(place, empty)
            shard["pages"] += 1
            shard["blocks"] += row["blocks"]
            shard["bytes"] += row["bytes"]
    return [shards[place] for place in sorted(shards)]


def _levels(tally: Tally) -> list[Row]:
    names = _grouped(tally, lambda key: key[2])
    return [{"level": level.name.lower(), "blocks": names[level].total()} for level in LEVELS]


def _tenants(tally: Tally, tenants: Mapping[DomainTag, str]) -> list[Row]:
    """Those that hold most first. No tenant for a tag that is nobody's: of one that left, or of another model."""
    holders = Counter(tag for _, tag in {(holder, tag) for holder, tag, _ in tally})
    names = _grouped(tally, lambda key: key[1])
    rows = [
        {"tenant": tenants.get(tag), "tag": tag, "replicas": holders[tag], **_blocks(names[tag])}
        for tag in sorted(names)
    ]
    return sorted(rows, key=lambda row: -row["blocks"])


def _grouped(tally: Tally, by: Callable[[_Held], K]) -> dict[K, Counter[Level]]:
    groups = defaultdict[K, Counter[Level]](Counter)
    for key, count in tally.items():
        groups[by(key)][key[2]] += count
    return groups


def _blocks(names: Counter[Level]) -> Row:
    """Each block at its nearest level, and all."""
    gpu, cpu, disk = (names[level] for level in LEVELS)
    return {"gpu_blocks": gpu, "cpu_blocks": cpu, "disk_blocks": disk, "blocks": gpu + cpu + disk}
