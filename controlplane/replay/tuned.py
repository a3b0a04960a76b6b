"""What tuning found: a table of settings, how sure it is, and the lines for a configuration file."""

import msgspec
import yaml
from rich import box
from rich.table import Table

from ...policies import PolicySettings
from .report import in_words
from .summary import Summary, summarise
from .tuning import Tuned

_SURE = "it is better than the default on requests that it was not chosen for: set it"
_UNSURE = "it may not be better than the default on requests that it was not chosen for: the default will do"
_WRONG = "it is worse than the default on requests that it was not chosen for: keep the default"
_DEFAULT = "the default is the best of what was tried: keep it"
_WRITTEN = "in a configuration file it is"


def tuned_table(tuned: Tuned, title: str) -> Table:
    """A row a setting, the best first, as they did on the part of the trace that they were tried on."""
    shown = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for column in ("setting", "hit %", "TTFT\nmean ms", "p99", "E2E\nms"):
        shown.add_column(column, justify="left" if column == "setting" else "right", no_wrap=True)
    for each in tuned.tried:
        its = each.summary
        times = (its.ttft_mean_ms, its.ttft_p99_ms, its.e2e_mean_ms)
        shown.add_row(each.label, f"{100 * its.hit_rate:.1f}", *(f"{ms:,.0f}" for ms in times))
    return shown


def tuned_in_words(tuned: Tuned) -> list[str]:
    """How sure it is, and what to write where."""
    if tuned.is_default:
        return [_DEFAULT]
    said = [f"on the rest of the trace, {in_words(tuned.judged)}"]
    match tuned.judged.verdict:
        case "better":
            return [*said, _SURE, _WRITTEN, as_yaml(tuned.best.settings)]
        case "worse":
            return [*said, _WRONG]
        case "no difference shown":
            return [*said, _UNSURE, _WRITTEN, as_yaml(tuned.best.settings)]


def tuned_to_json(tuned: Tuned) -> dict[str, object]:
    """The same as JSON's types; what there is no number for is None."""
    best = tuned.best
    return {
        "metric": tuned.metric,
        "settings": [{**_said(each.label, each.settings), **_figures(each.summary)} for each in tuned.tried],
        "best": {**_said(best.label, best.settings), **_figures(summarise(tuned.run)), "is_default": tuned.is_default},
        "default": _figures(summarise(tuned.default)),
        "judged": _plain(tuned.judged),
    }


def as_yaml(settings: PolicySettings) -> str:
    """The lines of a configuration file that set a policy so."""
    text: str = yaml.safe_dump({"routing": _routing(settings)}, sort_keys=False)
    return text.rstrip()


def _routing(settings: PolicySettings) -> dict[str, object]:
    return {"name": settings.name, **settings.model_dump(mode="json", exclude_defaults=True, exclude={"name"})}


def _said(label: str, settings: PolicySettings) -> dict[str, object]:
    return {"setting": label, "routing": _routing(settings)}


def _figures(summary: Summary) -> dict[str, object]:
    return {name: value for name, value in _plain(summary).items() if name != "tenants"}


def _plain(struct: msgspec.Struct) -> dict[str, object]:
    """JSON has no NaN, and msgspec writes null for it."""
    return msgspec.json.decode(msgspec.json.encode(struct), type=dict[str, object])
