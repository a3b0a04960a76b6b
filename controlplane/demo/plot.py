"""One picture: how soon the first token came under each routing, and how many prompt tokens that took."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from .drive import Answer, Reply
from .report import BASELINE, OURS, RAY, figures

_COLOURS = {BASELINE: "#9a9a9a", RAY: "#4c78a8", OURS: "#e4572e"}


def write_plot(runs: Mapping[str, Sequence[Reply]], path: Path) -> None:
    """Write a PNG: left, the share of requests whose first token had come by a time; right, tokens computed."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    for routing, replies in runs.items():
        times_s = sorted(reply.completion.ttft_ms / 1e3 for reply in replies if isinstance(reply, Answer))
        if times_s:
            left.ecdf(times_s, label=routing, color=_COLOURS[routing], linewidth=2)
    left.set(xlabel="time to first token, seconds", ylabel="share of requests", xlim=(0, None), ylim=(0, 1))
    left.set_title("Time to first token: further left is sooner")
    left.axhline(0.5, color="#dddddd", linewidth=1, zorder=0)
    if left.get_legend_handles_labels()[1]:
        left.legend(loc="lower right")
    computed = {routing: figures(replies).prefill_tokens for routing, replies in runs.items()}
    bars = right.bar(list(computed), list(computed.values()), color=[_COLOURS[routing] for routing in computed])
    right.bar_label(bars, labels=[f"{tokens:,}" for tokens in computed.values()])
    right.set_title("Prompt tokens computed")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
