"""What `kvplane directory` shows, as tables for the eye."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from .fetch import Report

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_BLOCKS = ("gpu", "cpu", "disk", "blocks")
_COUNTS = ("behind", "gaps", "reloads", "rejected", "mismatches", "implausible", "hasty")


def show_stats(report: Report, console: Console) -> None:
    """Blocks stand at their nearest level; bytes are Redis' own count."""
    _show("Shards", ["shard", "node", "pages", "blocks", "bytes"], map(_shard, report["shards"]), console)
    columns = ["replica", *_BLOCKS, "shard", "log", "checkpoint", "page", "bytes a block"]
    _show("Replicas", columns, map(_replica, report["replicas"]), console)
    _show("Levels", ["level", "blocks"], ((row["level"], _count(row["blocks"])) for row in report["levels"]), console)
    _show("Tenants", ["tenant", "tag", *_BLOCKS, "replicas"], map(_tenant, report["tenants"]), console)
    for router in report["routers"]:
        size = f"{_bytes(router['table_bytes'])} of at most {_bytes(router['most_bytes'])}"
        title = f"Mirror of router {router['router']}: {size}, {router['errors']} errors"
        _show(title, ["replica", "at", "blocks", "age", *_COUNTS], map(_page, router["pages"]), console)
        for replica in router["unread"]:
            console.print(f"It has not read the page of {replica}.")


def show_found(report: Report, console: Console) -> None:
    """Each level includes those nearer; the last token is always computed, so its block is never reused."""
    size = f"{_count(report['prompt_tokens'])} tokens, {_count(report['prompt_blocks'])} whole blocks"
    console.print(f"A prompt of {size} of {report['block_tokens']} tokens that could be reused.")
    if not report["holders"]:
        tenants = report["tenants"]
        console.print(f"Nobody holds its first block for {tenants[0] if len(tenants) == 1 else 'any tenant'}.")
        return
    columns = ["replica", "tenant", "gpu", "gpu+cpu", "gpu+cpu+disk", "tokens in gpu", "tokens in all"]
    _show("Who holds how much of it", columns, map(_holder, report["holders"]), console)


def show_verified(report: Report, console: Console) -> None:
    """One line a replica, then each finding in words."""
    wrong = {(each["replica"], each["copy"], each["router"]) for each in report["findings"]}
    routers = report["routers"]
    rows = []
    for account in report["replicas"]:
        replica = account["replica"]
        mirrors = sum((replica, "mirror", router) not in wrong for router in routers)
        page = "differs" if (replica, "page", None) in wrong else "equal"
        place = f"{account['epoch']}-{account['seq']}"
        rows.append((replica, place, *_blocks(account), page, f"{mirrors} of {len(routers)} equal"))
    _show("Replicas, their pages, and mirrors of them", ["replica", "at", *_BLOCKS, "page", "mirrors"], rows, console)
    for finding in report["findings"]:
        console.print(_finding(finding), soft_wrap=True, highlight=False)
    console.print("All copies agree." if report["equal"] else f"{len(report['findings'])} copies differ.")


def _finding(finding: Report) -> str:
    copies = {"replica": "the replica", "page": "its page", "mirror": f"the mirror of router {finding['router']}"}
    levels = "".join(f"; {_level(level)}" for level in finding["levels"])
    repaired = "repaired" if finding["repaired"] else "not repaired"
    return f"{finding['replica']}: {copies[finding['copy']]} {finding['what']}{levels}; {repaired}"


def _level(level: Report) -> str:
    found, expected = _count(level["found"]), _count(level["expected"])
    return f"{level['level']}: {found} blocks, {f'not {expected}' if found != expected else 'but others'}"


def _shard(row: Report) -> Sequence[str]:
    return str(row["shard"]), row["node"], _count(row["pages"]), _count(row["blocks"]), _bytes(row["bytes"])


def _replica(row: Report) -> Sequence[str]:
    name = row["replica"] if row["live"] else f"{row['replica']} (leaving)"
    shard = "-" if row["shard"] is None else str(row["shard"])
    each = f"{row['bytes'] / row['blocks']:.1f}" if row["blocks"] and row["bytes"] is not None else "-"
    sizes = (_bytes(row[part]) for part in ("log_bytes", "checkpoint_bytes", "bytes"))
    return name, *_blocks(row), shard, *sizes, each


def _tenant(row: Report) -> Sequence[str]:
    return row["tenant"] or "nobody's here", row["tag"], *_blocks(row), _count(row["replicas"])


def _page(row: Report) -> Sequence[str]:
    place, age = f"{row['epoch']}-{row['seq']}", f"{row['age_ms']:,.0f} ms"
    return row["replica"], place, _count(row["blocks"]), age, *(_count(row[count]) for count in _COUNTS)


def _holder(row: Report) -> Sequence[str]:
    name = row["replica"] if row["live"] else f"{row['replica']} (leaving)"
    numbers = ("gpu_blocks", "cpu_blocks", "disk_blocks", "gpu_tokens", "disk_tokens")
    return name, row["tenant"], *(_count(row[number]) for number in numbers)


def _blocks(row: Report) -> Sequence[str]:
    return tuple(_count(row[name]) for name in ("gpu_blocks", "cpu_blocks", "disk_blocks", "blocks"))


def _count(number: int) -> str:
    return f"{number:,}"


def _bytes(number: int | None) -> str:
    """In the largest unit of which there is one at least."""
    if number is None:
        return "-"
    size, unit = float(number), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} B" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def _show(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], console: Console) -> None:
    """Names to the left, numbers to the right; nothing is cut off."""
    cells = list(rows)
    if not cells:
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for column, first in zip(columns, cells[0], strict=True):
        number = first[:1].isdigit() or first == "-"
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in cells:
        table.add_row(*row)
    console.print(table)
