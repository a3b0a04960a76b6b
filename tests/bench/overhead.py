"""The overhead benchmark: kvplane beside a bare Serve application, once for each way Serve's front can run."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kvplane.controlplane.interrupt import one_interrupt
from kvplane.controlplane.local import free_port

from .errors import BenchError
from .rows import Row

_HAPROXY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",  # else stopping takes half a minute
}
# `throughput` is HAProxy with Serve's user code, router and proxy in one loop, and gRPC between processes.
_ENVIRONMENTS = {
    "python": {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"},
    "haproxy": {**_HAPROXY, "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"},
    "throughput": {**_HAPROXY, "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"},
}
MODES = tuple(_ENVIRONMENTS)
_START_AND_STOP_S = 180
_STOP_S = 60


def overhead(modes: Sequence[str], seconds: float) -> list[Row]:
    """Measure each mode in a process of its own. Raises `BenchError`, and KeyboardInterrupt once all has stopped."""
    rows: list[Row] = []
    for mode in modes:
        with tempfile.TemporaryDirectory(prefix="kvplane-bench-") as folder:
            rows += _measured(mode, seconds, Path(folder))
    return rows


def _measured(mode: str, seconds: float, folder: Path) -> list[Row]:
    rows_file = folder / "rows.json"
    command = [sys.executable, "-m", "kvplane.tests.bench.one_mode", mode, str(seconds), str(rows_file)]
    print(f"{mode}: starting Ray", file=sys.stderr, flush=True)
    with one_interrupt():
        # Its own session: a Ctrl-C is for this process, which then ends that one.
        process = subprocess.Popen(
            command, env=os.environ | _environment(mode, folder), stdout=sys.stderr, start_new_session=True
        )
        try:
            code = process.wait(timeout=_START_AND_STOP_S + 16 * seconds)
        except subprocess.TimeoutExpired as exc:
            raise BenchError(f"the {mode} run did not end within {exc.timeout:.0f} s") from exc
        finally:
            _stop(process)
    if code != 0:
        raise BenchError(f"the {mode} run ended with code {code}")
    return msgspec.json.decode(rows_file.read_bytes(), type=list[Row])


def _environment(mode: str, folder: Path) -> dict[str, str]:
    """HAProxy's files and ports are fixed by default, and would meet those of a cluster that runs here already."""
    return {
        **_ENVIRONMENTS[mode],
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port(0)),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port(0)),
    }


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """It stops its Ray itself when asked to end."""
    process.terminate()
    try:
        process.wait(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
