"""KV events as real engines published them, kept outside of the repository."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from kvplane.workers.engine import EngineEvent
from kvplane.workers.vllm_events import decode

CAPTURES = Path(__file__).resolve().parents[2] / "shared" / "data" / "events"


def captured(name: str) -> Sequence[EngineEvent]:
    """All events of one capture; the test is skipped where it is not at hand."""
    path = CAPTURES / name
    if not path.exists():
        pytest.skip(f"no captured events at {path}")
    return [event for payload in _payloads(path.read_bytes()) for event in decode(payload)]


def _payloads(data: bytes) -> Iterator[bytes]:
    """Records of a time and the frames of one message: topic, seq, payload."""
    at = 0
    while at < len(data):
        _, count = struct.unpack_from("<dI", data, at)
        at += 12
        frames = []
        for _ in range(count):
            (size,) = struct.unpack_from("<I", data, at)
            frames.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        yield frames[2]
