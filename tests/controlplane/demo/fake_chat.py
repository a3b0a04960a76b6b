"""A chat server small enough to read: it answers every request with its number, and fails when told to."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FakeChat:
    """What came, and what is to go wrong."""

    url: str = ""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # Any: JSON
    not_ready: int = 0  # how many times /ready still says no
    refuse: set[int] = field(default_factory=set)  # numbers of the requests answered with a 503
    break_off: set[int] = field(default_factory=set)  # those whose stream ends in an error
    cut_short: set[int] = field(default_factory=set)  # those whose stream ends without a word
    paths: list[str] = field(default_factory=list)
    on_request: Callable[[int], None] = lambda number: None

    def reply(self, number: int, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        tokens = sum(len(message["content"]) for message in body["messages"]) // 4
        head = {"id": f"chatcmpl-{number:016x}"}
        yield {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "answer "}}]}
        if number in self.break_off:
            yield {"error": {"message": "the answer broke off"}}
            return
        if number in self.cut_short:
            return
        yield {**head, "choices": [{"index": 0, "delta": {"content": str(number)}, "finish_reason": "stop"}]}
        usage = {
            "prompt_tokens": tokens,
            "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": tokens // 2},
        }
        yield {**head, "choices": [], "usage": usage}


@contextmanager
def serving_fake() -> Iterator[FakeChat]:
    fake, lock = FakeChat(), threading.Lock()

    class Endpoint(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.paths.append(self.path)
            fake.not_ready -= 1
            self._head(503 if fake.not_ready >= 0 else 200)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                fake.paths.append(self.path)
                number = len(fake.asked)
                fake.asked.append((self.headers["authorization"], body))
            fake.on_request(number)
            if number in fake.refuse:
                self._head(503)
                self.wfile.write(b'{"error": {"message": "no replica is ready"}}')
                return
            with suppress(BrokenPipeError, ConnectionResetError):  # a client that was interrupted
                self._stream(number, body)

        def _stream(self, number: int, body: dict[str, Any]) -> None:
            self._head(200)
            for chunk in fake.reply(number, body):
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            if number not in fake.break_off | fake.cut_short:
                self.wfile.write(b"data: [DONE]\n\n")

        def _head(self, status: int) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    fake.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
