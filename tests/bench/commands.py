"""`kvplane bench`: what each benchmark is called on the command line."""

from enum import StrEnum
from typing import Annotated

import typer

from .directory_commands import decide_command, ingest_command, lookup_command, recover_command
from .flood_command import flood_command
from .overhead import MODES, overhead
from .printing import AsJson, errors_told, show
from .replay_commands import believable_command
from .request_path_command import request_path_command
from .routing_commands import learning_command, off_policy_command, routers_command, routing_command
from .rows import table_of

app = typer.Typer(help="Measure kvplane on this machine.", no_args_is_help=True)
app.command("lookup")(lookup_command)
app.command("decide")(decide_command)
app.command("request-path")(request_path_command)
app.command("ingest")(ingest_command)
app.command("recover")(recover_command)
app.command("believable")(believable_command)
app.command("routing")(routing_command)
app.command("learning")(learning_command)
app.command("routers")(routers_command)
app.command("off-policy")(off_policy_command)
app.command("flood")(flood_command)


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
    as_json: AsJson = False,
) -> None:
    """Compare with a bare Ray Serve application of the same shape, on the same Ray, in turns."""
    with errors_told():
        show(overhead(_SEVERAL.get(mode, (mode.value,)), seconds), table_of, as_json)
