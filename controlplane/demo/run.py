"""The demo as the command line starts it, with real parts."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from .errors import DemoError

if TYPE_CHECKING:
    from .report import Figures
    from .story import Stage

_EXTRAS = ("httpx", "matplotlib")


def run_demo(out: Path, console: Console | None = None, stage: "Stage | None" = None) -> Mapping[str, "Figures"]:
    """Run the demo and leave its report, plot and decisions in `out`.

    Returns each routing's figures. Raises `DemoError`, and `KeyboardInterrupt` once a signal has stopped everything.
    """
    missing = [package for package in _EXTRAS if find_spec(package) is None]
    if missing:
        raise DemoError(f"the demo also needs {' and '.join(missing)}: pip install 'kvplane[demo]'")
    # Below the check, since these import what it asks for; the command line must start without.
    from .real import real_stage
    from .story import tell

    return tell(stage or real_stage(), out, console or Console())
