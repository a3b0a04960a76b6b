"""The status shows every part of the application, and which part cannot tell."""

import pytest
from rich.console import Console

from kvplane.controlplane.fetch import Report
from kvplane.controlplane.status import show_status

ROUTER = {
    "router": "r1",
    "pid": 3,
    "routing": "ray",
    "repeats": 0,
    "declines": 0,
    "failures": {},
    "pages": [],
    "misfit": None,
    "probing": [],
}
REPORT: Report = {
    "registrar": {"directory": "redis+cluster://127.0.0.1:1", "shards": [{"port": 1, "pid": 2, "up": True}]},
    "replicas": [{"replica": "abc", "engine": "up"}, {"error": "it is ending"}],
    "routers": [
        ROUTER,
        {**ROUTER, "misfit": "too many blocks for its mirror", "probing": ["acme/default"]},
        {"error": "it is ending"},
    ],
}


def test_the_tables_show_every_part_and_what_cannot_tell(capsys: pytest.CaptureFixture[str]) -> None:
    show_status(REPORT, Console(width=120))

    shown = capsys.readouterr().out
    assert "redis+cluster://127.0.0.1:1" in shown
    assert "abc" in shown
    assert "a router does not answer: it is ending" in shown
    assert shown.count("too many blocks for its mirror") == 1
    assert shown.count("share none for now: acme/default") == 1
