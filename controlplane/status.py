"""`kvplane status`: asks every deployment of the running application what it sees."""

import os
from pathlib import Path
from typing import Any, cast

import msgspec
import ray
from ray import serve
from ray.exceptions import RayError
from rich.console import Console
from rich.table import Table

from .app import APP

_PATIENCE_S = 10

Report = dict[str, Any]  # Any: plain values, as JSON has them


class NotRunning(Exception):
    """No Ray here, or no application on it."""


def fetch_status() -> Report:
    """Ask registrar, replicas and routers. Raises `NotRunning`."""
    if (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RayError) as exc:
        raise NotRunning("no Ray cluster is running on this machine; start one with `kvplane up`") from exc
    try:
        application = serve.status().applications.get(APP)
        if application is None:
            raise NotRunning(f"Ray is running, but no application {APP!r} is; `serve run` it, or `kvplane up`")
        return {
            "application": str(application.status.value),
            "registrar": _ask("registrar")[0],
            "replicas": _ask("replicas"),
            "routers": _ask("routers"),
        }
    finally:
        ray.shutdown()


def show_status(report: Report, console: Console) -> None:
    """The same as tables."""
    console.print(f"application {report['application']}, directory {report['registrar']['directory']}")
    _show("Directory shards", report["registrar"]["shards"], console)
    _show("Replicas", report["replicas"], console)
    for router in report["routers"]:
        head = ", ".join(f"{name} {router[name]}" for name in ("routing", "repeats", "failures"))
        _show(f"Pages as router {router['router']} (pid {router['pid']}) sees them: {head}", router["pages"], console)


def _ask(deployment: str) -> list[Any]:
    handle = serve.get_deployment_handle(deployment, APP)
    answers = handle.broadcast("status").results(timeout_s=_PATIENCE_S)
    return cast(list[Any], msgspec.to_builtins(answers))


def _show(title: str, rows: list[dict[str, Any]], console: Console) -> None:
    table = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ("none",):
        table.add_column(name.replace("_", " "))
    for row in rows:
        table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)
