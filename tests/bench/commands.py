"""`kvplane bench`: what each benchmark is called on the command line."""

from enum import StrEnum
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from .errors import BenchError
from .overhead import MODES, overhead
from .rows import table_of

app = typer.Typer(help="Measure kvplane on this machine.", no_args_is_help=True)


class Mode(StrEnum):
    """What can be asked for: one of the modes, the first two, or all."""

    PYTHON = "python"
    HAPROXY = "haproxy"
    THROUGHPUT = "throughput"
    BOTH = "both"
    ALL = "all"


_SEVERAL = {Mode.BOTH: MODES[:2], Mode.ALL: MODES}


@app.callback()
def bench() -> None:
    """Measure kvplane on this machine."""


@app.command("overhead")
def overhead_command(
    mode: Annotated[
        Mode, typer.Option(help="How Serve runs; throughput is HAProxy with RAY_SERVE_THROUGHPUT_OPTIMIZED.")
    ] = Mode.BOTH,
    seconds: Annotated[float, typer.Option(min=0.3, help="How long each target is asked for each row.")] = 6.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for a machine.")] = False,
) -> None:
    """Compare with a bare Ray Serve application of the same shape, on the same Ray, in turns."""
    try:
        rows = overhead(_SEVERAL.get(mode, (mode.value,)), seconds)
    except BenchError as exc:
        typer.secho(f"kvplane bench: {exc}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from exc
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
    else:
        Console().print(table_of(rows))
