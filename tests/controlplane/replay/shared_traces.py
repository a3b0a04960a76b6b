"""The evaluation traces, kept outside of the repository."""

from pathlib import Path

import pytest

TRACES = Path(__file__).resolve().parents[4] / "shared" / "data" / "traces"


def shared_trace(name: str) -> Path:
    """The file of one trace; the test is skipped where it is not at hand."""
    path = TRACES / f"{name}.jsonl.xz"
    if not path.exists():
        pytest.skip(f"no trace at {path}")
    return path
