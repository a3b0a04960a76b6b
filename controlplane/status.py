"""`kvplane status`: what the running application says of its parts, asked over HTTP with the operator's key."""

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from .operator import operator_key, read_master

URL_FILE = "url"  # in the state folder: where `kvplane up` serves
_DEFAULT_URL = "http://127.0.0.1:8000"
_PATIENCE_S = 30

Report = dict[str, Any]  # Any: plain values, as JSON has them


class NotRunning(Exception):
    """No application answers, or not to this key."""


def fetch_status(state: Path, url: str | None) -> Report:
    """Ask the application. Raises `NotRunning` that says what to do."""
    where = f"{url or _served_at(state)}/status"
    try:
        key = operator_key(read_master(state))
    except (OSError, ValueError) as exc:
        raise NotRunning(f"the operator's key cannot be read ({exc}); name the state folder by --state") from exc
    request = urllib.request.Request(where, headers={"authorization": f"Bearer {key}"})  # the user's own URL
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:
            report: Report = msgspec.json.decode(answer.read())
            return report
    except urllib.error.HTTPError as exc:
        raise NotRunning(f"{where} answers {exc.code}; is it an application with the state folder {state}?") from exc
    except OSError as exc:
        raise NotRunning(f"{where} does not answer ({exc}); start one with `kvplane up`, or name it by --url") from exc


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
            f" failures survived: {router['failures'] or 'none'}"
        )
        _show("Pages as it sees them", router["pages"], console)


def _served_at(state: Path) -> str:
    path = state / URL_FILE
    return path.read_text().strip() if path.exists() else _DEFAULT_URL


def _show(title: str, rows: list[dict[str, Any]], console: Console) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name.replace("_", " "))
    for row in rows:
        table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)
