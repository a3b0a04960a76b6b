"""`serve run` from a fresh shell: the documented configuration serves, and a wrong one says what is wrong."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

import kvplane
from kvplane.controlplane.accounts import first_keys
from kvplane.controlplane.local import free_port

pytestmark = pytest.mark.walk

SERVE = str(Path(sys.executable).with_name("serve"))
DOCUMENTED = Path(kvplane.__file__).parent / "docs" / "serve.yaml"


@contextmanager
def serve_run(config: Path, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A Ray of its own, whatever Ray runs on this machine."""
    with log.open("wb") as out:
        command = [SERVE, "run", "--address", "local", str(config)]
        process = subprocess.Popen(command, cwd=log.parent, stdout=out, stderr=out, start_new_session=True)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


def answered(url: str, log: Path, process: "subprocess.Popen[bytes]", patience_s: float = 60) -> None:
    """Wait until the application says that it is ready."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            if httpx.get(f"{url}/ready").status_code == 200:
                return
        except httpx.TransportError:
            assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def test_the_documented_configuration_serves(tmp_path: Path) -> None:
    config = yaml.safe_load(DOCUMENTED.read_text())
    config["http_options"]["port"] = port = free_port(0)
    args = config["applications"][0]["args"]
    args |= {"engine": "tiny", "state": str(tmp_path / "state"), "replicas": {"count": 1}}
    path, log, url = tmp_path / "serve.yaml", tmp_path / "log", f"http://127.0.0.1:{port}"
    path.write_text(yaml.safe_dump(config))
    with serve_run(path, log) as process:
        answered(url, log, process)
        key = first_keys(tmp_path / "state" / "tenants.yaml")["acme"]
        body = {"model": "tiny", "prompt": "Once upon a time", "max_tokens": 4}
        headers = {"authorization": f"Bearer {key}"}
        answer = httpx.post(f"{url}/v1/completions", json=body, headers=headers, timeout=30)

    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 4
    assert process.returncode == 0


def test_an_argument_that_is_none_is_named() -> None:
    command = [SERVE, "run", "kvplane.controlplane.app:build", "engine=tiny", "routng=round_robin"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert run.returncode == 1
    assert "routng\n  Extra inputs are not permitted" in run.stderr
