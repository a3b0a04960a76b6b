"""What an audit found, as a table, in words and as JSON."""

from dataclasses import asdict
from typing import Any

from rich.table import Table

from .parties import Level
from .verdict import Finding, LevelReport, Report, Verdict

_WORDS = {
    Verdict.APART: "nothing to see of one another",
    Verdict.LEAK: "a leak: what others have asked can be told",
    Verdict.UNPROVEN: "nothing proven: take more --samples",
    Verdict.SEEN: "the control: the audit sees a cache that is shared",
}
_CONTROL_FAILED = (
    "the control failed: not even a key's own cache can be told, so the other levels prove nothing; take longer prompts"
    " (--tokens), more --samples, a --pause-ms, a quieter machine"
)
_LEAST = 1e-300  # of what a float still holds
EXIT = {Verdict.APART: 0, Verdict.LEAK: 1, Verdict.UNPROVEN: 3}


def table(report: Report) -> Table:
    """A row for every feature of every level."""
    shown = Table("level", "feature", box=None, header_style="bold")
    for heading in ("n", "hits", "misses", "AUC", "at most", "p", "p Holm"):
        shown.add_column(heading, justify="right")
    for level, found in report.levels.items():
        for number, (feature, finding) in enumerate(found.features.items()):
            shown.add_row("" if number else level.value, feature.value, *_cells(finding))
    return shown


def in_words(level: Level, found: LevelReport) -> str:
    """One level's verdict."""
    failed = level is Level.WITHIN and found.verdict is Verdict.UNPROVEN
    return f"{level}: {_CONTROL_FAILED if failed else _WORDS[found.verdict]}"


def to_json(report: Report) -> dict[str, Any]:  # Any: JSON
    return {
        "verdict": report.verdict,
        "levels": {
            level: {
                "verdict": found.verdict,
                "features": {feature: asdict(finding) for feature, finding in found.features.items()},
            }
            for level, found in report.levels.items()
        },
    }


def _cells(finding: Finding) -> tuple[str, ...]:
    return (
        f"{finding.n:,}",
        f"{finding.hit_mean:.4g}",
        f"{finding.miss_mean:.4g}",
        f"{finding.auc:.3f}",
        f"{finding.auc_upper:.3f}",
        _chance(finding.p),
        _chance(finding.p_holm),
    )


def _chance(p: float) -> str:
    return f"{p:.2g}" if p > _LEAST else f"<{_LEAST:g}"
