"""`kvplane status`: what the running application says of its parts, asked over HTTP with the operator's key."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .fetch import Report, fetch


def fetch_status(state: Path, url: str | None) -> Report:
    """Ask the application. Raises `NotRunning` that says what to do."""
    return fetch(state, url, "/status")


def show_status(report: Report, console: Console) -> None:
    """The same as tables."""
    registrar = report["registrar"]
    console.print(f"directory {registrar.get('directory') or registrar['error']}", soft_wrap=True)
    _show("Embedded shards", registrar.get("shards", []), console)
    _show("Replicas", report["replicas"], console)
    for router in report["routers"]:
        if "error" in router:
            console.print(f"a router does not answer: {router['error']}")
            continue
        console.print(
            f"Router {router['router']}, pid {router['pid']}, routing {router['routing']}: {router['repeats']} repeats,"
            f" {router['declines']} declines, failures survived: {router['failures'] or 'none'}"
        )
        if router["misfit"]:
            console.print(router["misfit"], soft_wrap=True)
        if router["probing"]:
            console.print(f"probed a public prefix and share none for now: {', '.join(router['probing'])}")
        _show("Pages as it sees them", router["pages"], console)


def _show(title: str, rows: list[dict[str, Any]], console: Console) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name.replace("_", " "))
    for row in rows:
        table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)
