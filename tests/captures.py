"""KV events as real engines published them, kept outside of the repository."""

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from kvplane.workers.engine import EngineEvent
from kvplane.workers.gaps import Message
from kvplane.workers.vllm_events import decode

CAPTURES = Path(__file__).resolve().parents[2] / "shared" / "data" / "events"


def captured(name: str, read: Callable[[bytes], Sequence[EngineEvent]] = decode) -> Sequence[EngineEvent]:
    """All events of one capture, of an engine with a single group of layers."""
    return [event for message in messages(name) for event in read(message.payload)]


def batches(name: str, read: Callable[[bytes], Sequence[EngineEvent]]) -> Sequence[Sequence[object]]:
    """The events of one capture as they came together."""
    return [read(message.payload) for message in messages(name)]


def messages(name: str) -> Sequence[Message]:
    """One capture as published; the test is skipped where it is not at hand."""
    path = CAPTURES / name
    if not path.exists():
        pytest.skip(f"no captured events at {path}")
    return list(_messages(path.read_bytes()))


def _messages(data: bytes) -> Iterator[Message]:
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
        yield Message(int.from_bytes(frames[1], "big"), frames[2])
