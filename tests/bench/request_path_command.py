"""`kvplane bench request-path`: what tenants' accounts and limits cost a request, measured."""

from pathlib import Path
from typing import Annotated

import typer

from .printing import AsJson, errors_told, show
from .request_path import Run, request_path
from .request_path_rows import request_path_table
from .sizes import sizes

_REPLICAS = (4, 4096)  # fewer could not have three holders of a prefix that not all have


def request_path_command(
    replicas: Annotated[str, typer.Option(help="How many replicas; several as a list: 8,64.")] = "8,64",
    extents: Annotated[str, typer.Option(help="Distinct extents over all holders.")] = "1,8",
    requests: Annotated[int, typer.Option(min=100, max=1_000_000, help="How many are measured of each kind.")] = 2000,
    per_s: Annotated[float, typer.Option(min=1, max=2000, help="How many a second come to one router.")] = 200.0,
    disk: Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="Where the store's file is.")] = None,
    as_json: AsJson = False,
) -> None:
    """A router's part of a request without accounts, with tenants that have no rules, and with all limits, in turns."""
    with errors_told():
        fleets, kinds = sizes(replicas, 1000, *_REPLICAS), sizes(extents, 1000, 1, _REPLICAS[1])
        show(request_path(fleets, kinds, Run(requests, per_s, disk)), request_path_table, as_json)
