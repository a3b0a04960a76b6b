"""Three pictures of runs: how soon first tokens came, how much was found in caches, how even the load was."""

import html
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from .report import WIDTH, policy_table
from .run import Floats, Run
from .summary import summarise

# Okabe and Ito's colours, which every kind of eye tells apart.
_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DASHES = ("-", "--", ":")  # policies beyond the colours begin again with the next
_A_ROW = 4  # loads side by side
_WINDOWS = 20  # the rolling hit rate is over this part of all prompt tokens
_POINTS = 120  # of a line over time
_SHARES = np.linspace(0, 1, 501)
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font-family: sans-serif; margin: 2em auto; max-width: 80em; color: #222 }}
svg {{ width: 100%; height: auto }}
pre {{ overflow-x: auto }}
</style></head>
<body>
<h1>{title}</h1>
{svg}
<pre>{table}</pre>
</body>
</html>
"""

_Figure = Any  # matplotlib is optional, so its types cannot be named
_Axes = Any


class CannotPlot(Exception):
    """What is missing or not known, and what to do."""


def plot(runs: Mapping[str, Run], path: Path) -> None:
    """Write a .png, or an .html that needs nothing else and holds the table too. Raises CannotPlot.

    Left, the share of requests whose first token had come by a time; right, the hit rate over time; below, for each
    policy the load between its least and most loaded replica.
    """
    suffix = path.suffix.lower()
    if suffix not in (".png", ".html"):
        raise CannotPlot(f"wanted a file that ends in .png or .html; got {path.name}")
    if not runs:
        raise CannotPlot("wanted at least one run; got none")
    figure = _figure(runs)
    if suffix == ".png":
        figure.savefig(path, dpi=150)
    else:
        path.write_text(_page(figure, runs), encoding="utf-8")


def _figure(runs: Mapping[str, Run]) -> _Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CannotPlot("a plot needs matplotlib: pip install 'kvplane[demo]'") from error
    rows = -(-len(runs) // _A_ROW)
    figure: _Figure = Figure(figsize=(13, 5 + 2.2 * rows), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(5, 2.2 * rows))
    first_tokens, hits = upper.subplots(1, 2)
    looks = {name: _look(at) for at, name in enumerate(runs)}
    _draw_first_tokens(first_tokens, runs, looks)
    _draw_hits(hits, runs, looks)
    if first_tokens.get_legend_handles_labels()[1]:
        upper.legend(*first_tokens.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    lower.suptitle(
        "Sequences on a replica, waiting ones too: mean, and from the least to the most loaded replica",
        x=0.01,
        ha="left",
    )
    panels = lower.subplots(rows, min(len(runs), _A_ROW), sharex=True, sharey=True, squeeze=False)
    _draw_loads(panels, runs, looks)
    for axes in (first_tokens, hits, *panels.flat):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _look(at: int) -> tuple[str, str]:
    return _COLOURS[at % len(_COLOURS)], _DASHES[at // len(_COLOURS) % len(_DASHES)]


def _draw_first_tokens(axes: _Axes, runs: Mapping[str, Run], looks: Mapping[str, tuple[str, str]]) -> None:
    for name, run in runs.items():
        ttft_s = run.ttft_ms[run.served] / 1e3
        if ttft_s.size:
            colour, dashes = looks[name]
            rising = np.quantile(np.maximum(ttft_s, 1e-3), _SHARES)
            axes.plot(rising, _SHARES, label=name, color=colour, linestyle=dashes, linewidth=1.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(xlabel="time to first token, seconds (log scale)", ylabel="share of answered requests", ylim=(0, 1))
    axes.set_title("Time to first token: further left is sooner", loc="left")
    axes.grid(color="#e5e5e5", linewidth=0.8)


def _draw_hits(axes: _Axes, runs: Mapping[str, Run], looks: Mapping[str, tuple[str, str]]) -> None:
    unit, per_unit = _unit(runs)
    window = 0
    for name, run in runs.items():
        at_ms, rate, window = rolling_hit_rate(run)
        colour, dashes = looks[name]
        axes.plot(at_ms / per_unit, 100 * rate, color=colour, linestyle=dashes, linewidth=1.8)
    axes.set(xlabel=f"time in the trace, {unit}", ylim=(0, None))
    axes.set_ylabel(f"% of the last {window:,} prompt tokens")
    axes.set_title("Prompt tokens found in a cache: higher is better", loc="left")
    axes.grid(color="#e5e5e5", linewidth=0.8)


def _draw_loads(panels: NDArray[Any], runs: Mapping[str, Run], looks: Mapping[str, tuple[str, str]]) -> None:
    unit, per_unit = _unit(runs)
    for axes, (name, run) in zip(panels.flat, runs.items(), strict=False):
        at_ms, load = thinned_load(run)
        colour, _ = looks[name]
        if len(load):
            axes.fill_between(
                at_ms / per_unit, load.min(axis=1), load.max(axis=1), color=colour, alpha=0.25, linewidth=0
            )
            axes.plot(at_ms / per_unit, load.mean(axis=1), color=colour, linewidth=1.4)
        axes.set_title(name, fontsize="medium", loc="left")
    panels[0, 0].set_ylim(0, None)  # after all are drawn, for it is shared and ends their scaling
    for axes in panels.flat[len(runs) :]:
        axes.set_axis_off()
    for axes in panels[:, 0]:
        axes.set_ylabel("sequences")
    for at, axes in enumerate(panels.flat):
        if len(runs) - panels.shape[1] <= at < len(runs):
            axes.set_xlabel(f"time, {unit}")
            axes.tick_params(labelbottom=True)


def rolling_hit_rate(run: Run) -> tuple[Floats, Floats, int]:
    """When, the share found of the prompt tokens up to then, and of how many: a twentieth of all.

    Counted by token, so a lull does not stretch and a burst does not shrink what a point stands for.
    """
    prompt = np.concatenate(([0], np.cumsum(run.prompt_tokens)))
    cached = np.concatenate(([0], np.cumsum(np.where(run.served, run.cached_tokens, 0))))
    window = int(prompt[-1]) // _WINDOWS
    full = int(np.searchsorted(prompt, max(window, 1)))
    if full >= len(prompt):
        return np.zeros(0), np.zeros(0), window
    ends = np.unique(np.linspace(full, len(prompt) - 1, _POINTS, dtype=np.int64))
    begins = np.minimum(np.searchsorted(prompt, prompt[ends] - window, side="right") - 1, ends - 1)
    return run.arrived_ms[ends - 1], (cached[ends] - cached[begins]) / (prompt[ends] - prompt[begins]), window


def thinned_load(run: Run) -> tuple[Floats, Floats]:
    """Each replica's load over time, averaged over neighbouring samples so that at most so many points are left."""
    firsts = np.unique(np.linspace(0, len(run.sampled_ms), _POINTS, endpoint=False, dtype=np.int64))
    if not len(run.sampled_ms):
        return run.sampled_ms, run.load
    samples = np.diff(np.concatenate((firsts, [len(run.sampled_ms)])))
    return np.add.reduceat(run.sampled_ms, firsts) / samples, np.add.reduceat(run.load, firsts) / samples[:, None]


def _unit(runs: Mapping[str, Run]) -> tuple[str, float]:
    """What to count time in, and its milliseconds."""
    span_ms = max((float(run.arrived_ms[-1]) for run in runs.values() if len(run.arrived_ms)), default=0.0)
    return ("seconds", 1e3) if span_ms < 180e3 else ("minutes", 60e3) if span_ms < 3 * 3600e3 else ("hours", 3600e3)


def _page(figure: _Figure, runs: Mapping[str, Run]) -> str:
    from matplotlib import rc_context

    drawn = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "kvplane"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    svg = drawn.getvalue()
    shown = Console(file=StringIO(), width=WIDTH, record=True)
    shown.print(policy_table("", {name: [summarise(run)] for name, run in runs.items()}))
    return _PAGE.format(
        title=html.escape("Replay: " + ", ".join(runs)),
        svg=svg[svg.index("<svg") :],
        table=html.escape(shown.export_text()),
    )
