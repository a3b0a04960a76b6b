"""The status is asked with a key that only the state folder's readers can derive."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from kvplane.controlplane.operator import operator_key
from kvplane.controlplane.status import NotRunning, Report, fetch_status, show_status

MASTER = b"m" * 32
REPORT: Report = {
    "registrar": {"directory": "redis+cluster://127.0.0.1:1", "shards": [{"port": 1, "pid": 2, "up": True}]},
    "replicas": [{"replica": "abc", "engine": "up"}, {"error": "it is ending"}],
    "routers": [
        {"router": "r1", "pid": 3, "routing": "ray", "repeats": 0, "failures": {}, "pages": []},
        {"error": "it is ending"},
    ],
}


@pytest.fixture
def url() -> Iterator[str]:
    class Application(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["authorization"] == f"Bearer {operator_key(MASTER)}"
            self.send_response(200 if known else 401)
            self.end_headers()
            self.wfile.write(json.dumps(REPORT).encode())

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Application) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def state_of(folder: Path, master: bytes) -> Path:
    (folder / "master.key").write_text(master.hex())
    return folder


def test_the_state_folder_says_where_and_holds_the_key(tmp_path: Path, url: str) -> None:
    state = state_of(tmp_path, MASTER)
    (state / "url").write_text(url)

    assert fetch_status(state, None) == REPORT
    assert fetch_status(state, url) == REPORT


def test_another_applications_folder_is_refused_and_told_so(tmp_path: Path, url: str) -> None:
    with pytest.raises(NotRunning, match="answers 401"):
        fetch_status(state_of(tmp_path, b"x" * 32), url)


def test_nobody_at_home_says_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="kvplane up"):
        fetch_status(state_of(tmp_path, MASTER), "http://127.0.0.1:1")


def test_the_tables_show_every_part_and_what_cannot_tell(capsys: pytest.CaptureFixture[str]) -> None:
    show_status(REPORT, Console(width=120))

    shown = capsys.readouterr().out
    assert "redis+cluster://127.0.0.1:1" in shown
    assert "abc" in shown
    assert "a router does not answer: it is ending" in shown
