"""An application is asked with a key that only the state folder's readers can derive."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from kvplane.controlplane.fetch import NotRunning, Refused, Report, fetch
from kvplane.controlplane.operator import operator_key

MASTER = b"m" * 32
REPORT: Report = {"registrar": {"pid": 1}}


@pytest.fixture
def url() -> Iterator[str]:
    class Application(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["authorization"] == f"Bearer {operator_key(MASTER)}"
            self._answer(200 if known else 401, REPORT)

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.path == "/proxy":
                self._answer(503, "no server")
            elif asked == {"wrong": True}:
                self._answer(400, {"error": {"message": "give a prompt"}})
            else:
                self._answer(200, {"asked": asked})

        def _answer(self, status: int, body: object) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode() if isinstance(body, str) else json.dumps(body).encode())

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Application) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def state_of(folder: Path, master: bytes = MASTER) -> Path:
    (folder / "master.key").write_text(master.hex())
    return folder


def test_the_state_folder_says_where_and_holds_the_key(tmp_path: Path, url: str) -> None:
    state = state_of(tmp_path)
    (state / "url").write_text(url)

    assert fetch(state, None, "/status") == REPORT
    assert fetch(state, url, "/status") == REPORT


def test_a_body_is_posted(tmp_path: Path, url: str) -> None:
    assert fetch(state_of(tmp_path), url, "/find", {"text": "hi"}) == {"asked": {"text": "hi"}}
    assert fetch(state_of(tmp_path), url, "/find", {}) == {"asked": {}}


def test_what_the_application_objects_to_is_told_in_its_words(tmp_path: Path, url: str) -> None:
    with pytest.raises(Refused, match=r"^give a prompt$"):
        fetch(state_of(tmp_path), url, "/find", {"wrong": True})
    with pytest.raises(Refused, match=r"^no server$"):
        fetch(state_of(tmp_path), url, "/proxy", {})


def test_another_applications_folder_is_refused_and_told_so(tmp_path: Path, url: str) -> None:
    with pytest.raises(NotRunning, match="answers 401"):
        fetch(state_of(tmp_path, b"x" * 32), url, "/status")


def test_nobody_at_home_says_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="kvplane up"):
        fetch(state_of(tmp_path), "http://127.0.0.1:1", "/status")


def test_a_state_folder_without_a_key_says_which_option_names_another(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="--state"):
        fetch(tmp_path, None, "/status")
