"""`kvplane bench believable`: our replay of a trace beside Dynamo's."""

from pathlib import Path
from typing import Annotated

import typer

from kvplane.controlplane.replay.read_trace import read_trace
from kvplane.controlplane.replay.trace import BadTrace, Trace, scaled

from .believable import PAIRS, Sizes, believable, dynamos_replay, our_replay
from .believable_rows import believable_table
from .errors import BenchError
from .printing import AsJson, errors_told, show


def believable_command(
    trace: Annotated[Path, typer.Argument(help="The trace, in any format that kvplane replays.")],
    replicas: Annotated[int, typer.Option(min=1, max=1024, help="How many replicas.")] = 8,
    blocks: Annotated[int, typer.Option(min=1, help="Blocks of KV cache on each.")] = 2048,
    requests: Annotated[int | None, typer.Option(min=1, help="How many requests, from the first on; all.")] = None,
    policy: Annotated[list[str] | None, typer.Option(help="Compare only this policy; can be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Replay a trace by kvplane and by Dynamo, with Dynamo's timing, and compare what they say."""
    with errors_told():
        sizes = Sizes(replicas, blocks)
        pairs = [pair for pair in PAIRS if policy is None or pair.policy in policy]
        if not pairs:
            raise BenchError(
                f"wanted a policy of {', '.join(pair.policy for pair in PAIRS)}; got {', '.join(policy or ())}"
            )
        dynamos = dynamos_replay(sizes)
        show(believable(_trace(trace, requests), pairs, our_replay(sizes), dynamos), believable_table, as_json)


def _trace(path: Path, requests: int | None) -> Trace:
    try:
        return scaled(read_trace(path), requests=requests)
    except BadTrace as exc:
        raise BenchError(str(exc)) from exc


if __name__ == "__main__":
    typer.run(believable_command)
