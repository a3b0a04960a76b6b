"""The picture is written, whatever the runs are, and its lines are right by hand."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from kvplane.controlplane.replay.plot import CannotPlot, plot, rolling_hit_rate, thinned_load
from kvplane.tests.controlplane.replay.made_run import made_run

RUNS = {
    "some": made_run(np.linspace(10, 5000, 60), cached=[30] * 60, load=[[1.0, 3.0]] * 60, duplicates=[1.0]),
    "one": made_run([100.0], load=[[0.0, 1.0]]),
    "failed": made_run([math.nan] * 3, replica=[-1] * 3),
    "empty": made_run([]),
}


@pytest.mark.parametrize("names", [["some"], ["failed"], ["empty"], list(RUNS)])
def test_a_png_is_written(tmp_path: Path, names: list[str]) -> None:
    plot({name: RUNS[name] for name in names}, tmp_path / "runs.png")

    assert (tmp_path / "runs.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_an_html_holds_the_picture_and_the_table_and_needs_nothing_else(tmp_path: Path) -> None:
    plot(RUNS | {"<b>": RUNS["some"]}, tmp_path / "runs.HTML")

    page = (tmp_path / "runs.HTML").read_text()
    assert "<svg" in page
    assert "2,505" in page  # the mean TTFT of some, in the table
    assert "Time to first token: further left is sooner" in page
    assert "<b>" not in page
    assert "<script" not in page
    assert "<!DOCTYPE svg" not in page
    assert 'href="http' not in page
    assert 'src="' not in page


def test_the_same_runs_give_the_same_page(tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        plot(RUNS, tmp_path / name)

    assert (tmp_path / "one.html").read_text() == (tmp_path / "two.html").read_text()


def test_more_policies_than_colours_can_be_drawn(tmp_path: Path) -> None:
    plot({f"policy_{at}": RUNS["some"] for at in range(9)}, tmp_path / "runs.png")

    assert (tmp_path / "runs.png").stat().st_size > 0


@pytest.mark.parametrize("name", ["runs.pdf", "runs", "html"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CannotPlot, match=rf"ends in \.png or \.html; got {name}"):
        plot(RUNS, tmp_path / name)


def test_no_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotPlot, match="at least one run"):
        plot({}, tmp_path / "runs.png")


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    with pytest.raises(CannotPlot, match=r"pip install 'kvplane\[demo\]'"):
        plot(RUNS, tmp_path / "runs.png")


def test_the_hit_rate_rolls_over_a_twentieth_of_the_tokens() -> None:
    # 4,000 tokens: a window of 200, which is two requests of 100; every fourth request is found whole.
    run = made_run([1.0] * 40, cached=[100 if at % 4 == 0 else 0 for at in range(40)])

    at_ms, rate, window = rolling_hit_rate(run)

    assert window == 200
    assert at_ms[:4].tolist() == [1000.0, 2000.0, 3000.0, 4000.0]
    assert rate[:4].tolist() == [0.5, 0.0, 0.0, 0.5]


def test_a_window_reaches_back_at_least_one_request() -> None:
    run = made_run([1.0] * 3, prompt=[1000, 1, 1000], cached=[500, 1, 250])

    assert rolling_hit_rate(run)[1].tolist() == [0.5, 501 / 1001, 0.25]


def test_load_is_thinned_to_means_of_neighbours() -> None:
    run = made_run([1.0], load=[[float(at), 0.0] for at in range(240)])

    at_ms, load = thinned_load(run)

    assert load.shape == (120, 2)
    assert at_ms[:2].tolist() == [500.0, 2500.0]
    assert load[:2].tolist() == [[0.5, 0.0], [2.5, 0.0]]
