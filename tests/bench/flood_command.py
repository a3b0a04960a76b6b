"""`kvplane bench flood`: one tenant at many times its quota, beside others who do as always."""

from collections.abc import Sequence
from typing import Annotated

import typer

from kvplane.controlplane.accounts import OverLimit

from .errors import BenchError
from .flood import flood
from .flood_rows import flood_table
from .flood_traffic import Traffic
from .printing import AsJson, errors_told, show

RULES: Sequence[OverLimit] = ("reject", "confine", "bypass")


def flood_command(
    routers: Annotated[str, typer.Option(help="How many: a run of each.")] = "1,8",
    times: Annotated[float, typer.Option(min=1.0, max=1000.0, help="Its quota that the flood asks for.")] = 50.0,
    seconds: Annotated[
        float, typer.Option(min=40.0, max=3600.0, help="Half a minute of quiet, then the flood.")
    ] = 90.0,
    store_ms: Annotated[float, typer.Option(min=0.0, max=50.0, help="What the accounts store takes.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """What victims lose beside one tenant at many times its quota, without limits and under each rule."""
    with errors_told():
        traffic = Traffic(seconds=seconds, times=times)
        show(list(flood(traffic, _counts(routers), RULES, store_ms / 1e3)), flood_table, as_json)


def _counts(asked: str) -> Sequence[int]:
    try:
        counts = [int(each) for each in asked.split(",")]
    except ValueError:
        counts = [0]
    if not all(1 <= each <= 64 for each in counts):
        raise BenchError(f"wanted numbers of routers from 1 to 64, such as 1,8; got {asked!r}")
    return counts
