"""One mode of Serve, measured in this process: Serve reads how to run when it is imported, so every mode has its own.

python -m kvplane.tests.bench.one_mode MODE SECONDS ROWS_FILE
"""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

import msgspec
from ray import serve

from kvplane.controlplane.config import Settings
from kvplane.controlplane.interrupt import one_interrupt
from kvplane.controlplane.local import Serving, free_port, machine

from .bare import bare
from .bodies import bodies
from .client import Target
from .errors import BenchError
from .load import load, ready
from .rows import BARE, OURS, Round, Row, row_of

BODY_BYTES = (2 << 10, 64 << 10)
CONCURRENCY = (1, 16)
_REPLICAS = 2
_ROUNDS = 3
_WARM_UP = 0.1  # of the measured time
_BLOCKS = 1 << 15  # every conversation fits, so that nothing measured is an eviction
_BARE_PREFIX = "/bare"


def main(mode: str, seconds: float, rows_file: Path) -> None:
    """Start a Ray with both applications, measure, write the rows, stop Ray."""
    with (
        one_interrupt() as interrupt,
        tempfile.TemporaryDirectory(prefix="kvplane-bench-") as state,
        machine(free_port(0), cpus=_REPLICAS) as here,
    ):
        interrupt.take()
        settings = _settings(Path(state))
        serve.run(bare(_REPLICAS), name=BARE, route_prefix=_BARE_PREFIX)
        with here.serving(settings) as serving:
            rows = interrupt.run(measure(mode, _targets(here.port, serving), settings.name, seconds, sys.stderr))
        rows_file.write_bytes(msgspec.json.encode(rows))


async def measure(mode: str, targets: Mapping[str, Target], model: str, seconds: float, progress: TextIO) -> list[Row]:
    """Every size at every concurrency, `seconds` for each target, in rounds that take turns."""
    rows: list[Row] = []
    for target in targets.values():
        await ready(target, next(bodies(model, BODY_BYTES[0], seed=0)))
    for size in BODY_BYTES:
        asked = {name: bodies(model, size, seed=size) for name in targets}
        for concurrency in CONCURRENCY:
            for name, target in targets.items():
                await load(target, asked[name], concurrency, seconds * _WARM_UP)
            rounds: dict[str, list[Round]] = {name: [] for name in targets}
            for number in range(_ROUNDS):
                for name in list(targets)[:: 1 if number % 2 == 0 else -1]:
                    rounds[name].append(await load(targets[name], asked[name], concurrency, seconds / _ROUNDS))
            found = [row_of(mode, name, size, concurrency, rounds[name]) for name in targets]
            rows += found
            medians = ", ".join(f"{row.target} {row.p50_us / 1e3:.2f} ms" for row in found)
            print(f"{mode}, {size >> 10} KB, {concurrency} at once: {medians}", file=progress, flush=True)
    return rows


def _settings(state: Path) -> Settings:
    engine = {"engine": "simulated", "prefill_us_per_token": 0, "decode_ms": 0, "blocks": _BLOCKS}
    return Settings.load(None, engine=engine, replicas={"count": _REPLICAS}, state=state)


def _targets(port: int, serving: Serving) -> dict[str, Target]:
    path, key = "/v1/chat/completions", serving.keys["acme"]
    return {OURS: Target(OURS, port, path, key), BARE: Target(BARE, port, f"{_BARE_PREFIX}{path}", key)}


if __name__ == "__main__":
    try:
        main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]))
    except BenchError as exc:
        sys.exit(f"kvplane bench: {exc}")
    except KeyboardInterrupt:
        sys.exit(130)
