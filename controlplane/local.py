"""kvplane on this one machine: a Ray of its own, one application at a time, nothing left behind."""

import contextlib
import io
import logging
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import ray
from ray import serve

from .accounts import first_keys
from .app import APP, build
from .config import Settings
from .fetch import URL_FILE

_HOST = "127.0.0.1"
_READY_S = 15.0
_OBJECT_STORE_BYTES = 150 << 20  # requests are small; Ray's default takes a third of memory


@dataclass(frozen=True, slots=True)
class Serving:
    """A running application: where it answers, and one API key per organisation."""

    url: str
    keys: dict[str, str]


class Machine:
    """A Ray started here; applications come and go on it."""

    def __init__(self, port: int) -> None:
        self.port = port

    @contextlib.contextmanager
    def serving(self, settings: Settings, application: serve.Application | None = None) -> Iterator[Serving]:
        """Deploy what the settings say, or an application built otherwise, wait until it answers; at last delete it."""
        serve.run(application or build(settings), name=APP, route_prefix="/")
        _await_ready(f"http://{_HOST}:{self.port}/ready")
        (settings.state / URL_FILE).write_text(f"http://{_HOST}:{self.port}")
        try:
            yield Serving(f"http://{_HOST}:{self.port}/v1", first_keys(settings.tenants_file))
        finally:
            serve.delete(APP)


@contextlib.contextmanager
def machine(port: int, cpus: float, verbose: bool = False) -> Iterator[Machine]:
    """Start Ray, and Serve's proxy on loopback; stop both on leaving. Ray's own ports ask for its token."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray.serve").setLevel(logging.INFO if verbose else logging.WARNING)
    try:
        ray.init(
            address="local",  # never join a Ray that happens to run here
            num_cpus=max(os.cpu_count() or 1, int(cpus) + 1),
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            log_to_driver=verbose,
            logging_level=logging.INFO if verbose else logging.ERROR,
        )
        serve.start(http_options={"host": _HOST, "port": port})
        yield Machine(port)
    finally:
        # Ray prints tasks that its own shutdown ended as if they had failed.
        with contextlib.nullcontext() if verbose else contextlib.redirect_stdout(io.StringIO()):
            if ray.is_initialized():
                serve.shutdown()
            ray.shutdown()


def _await_ready(url: str) -> None:
    """Wait until a router has met the replicas and read their pages; not for ever, since requests are served anyway."""
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(url, timeout=_READY_S):
            return
        time.sleep(0.1)


def free_port(wanted: int) -> int:
    """The wanted port if it is free, else one that is."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((_HOST, port))
                return int(probe.getsockname()[1])
    raise OSError("no free port on loopback")
