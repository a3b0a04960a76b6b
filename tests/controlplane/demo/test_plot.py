"""The picture is written, whatever the runs gave."""

from pathlib import Path

import pytest

from kvplane.controlplane.demo.drive import Failure, Reply
from kvplane.controlplane.demo.plot import write_plot
from kvplane.tests.controlplane.demo.made import answer


@pytest.mark.parametrize(
    "replies", [[answer(ttft_ms=100.0), answer(ttft_ms=900.0, cached=10)], [answer()], [Failure("acme", "no")]]
)
def test_a_png_is_written(tmp_path: Path, replies: list[Reply]) -> None:
    write_plot({"round_robin": replies, "ray": replies, "kvplane": replies}, tmp_path / "ttft.png")

    assert (tmp_path / "ttft.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
