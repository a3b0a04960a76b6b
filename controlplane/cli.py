"""The command line: what an operator does, each command a few lines over the file that does it."""

import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console

from ..directory import BadUrl
from ..workers import BadModel, LedgerDown
from .accounts.commands import tenants
from .audit import AuditFailed, audit_command
from .config import RAY, Settings
from .decisions import Decisions, NoDecisions
from .demo import DemoError, run_demo
from .directory_cli import directory
from .errors import AccountsDown, ConfigError
from .explain import explain
from .fetch import NotRunning, Refused
from .options import STATE, ConfigFile, Json, State, Url
from .replay.commands import ERRORS, replay_command, tune_command
from .since import epoch
from .status import fetch_status, show_status
from .table import show_decisions
from .up import up_until_signal
from .usage import usage_command

COMMANDS = "kvplane.commands"  # entry points of other packages: a name, and a typer application

app = typer.Typer(
    help="Send each LLM request to the replica that already holds its KV cache.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # locals hold keys
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(directory)
app.add_typer(tenants)
app.command("audit")(audit_command)
app.command("usage")(usage_command)
app.command("replay")(replay_command)
app.command("tune")(tune_command)
console = Console()
_TOLD = (
    AccountsDown,
    AuditFailed,
    BadModel,
    BadUrl,
    ConfigError,
    DemoError,
    LedgerDown,
    NoDecisions,
    NotRunning,
    Refused,
)


@app.command()
def up(
    model: Annotated[str | None, typer.Option(help="smollm2, tiny, a .gguf file, or a prepared folder.")] = None,
    replicas: Annotated[int | None, typer.Option(min=1, help="How many replicas.")] = None,
    routing: Annotated[str | None, typer.Option(help="A policy's name, or ray for Ray's own.")] = None,
    open: Annotated[bool | None, typer.Option("--open", help="Ask for no API key; everyone is one tenant.")] = None,
    port: Annotated[int, typer.Option(help="HTTP port on loopback; another free one if it is taken.")] = 8000,
    state: Annotated[Path | None, typer.Option(help="Where keys, tenants and decisions are kept.")] = None,
    config: ConfigFile = None,
    verbose: Annotated[bool, typer.Option(help="Show Ray's own log.")] = False,
) -> None:
    """Serve a model on this machine until Ctrl-C."""
    up_until_signal(_settings(config, model, replicas, routing, state, open), port, console, verbose)


@app.command()
def status(
    state: State = STATE,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show replicas, directory and routers of the running application."""
    report = fetch_status(state, url)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        show_status(report, console)


@app.command("config")
def show_config(
    config: ConfigFile = None,
    schema: Annotated[bool, typer.Option(help="Print every setting with its type, bounds and meaning.")] = False,
    as_json: Json = False,
) -> None:
    """Print the effective settings: defaults, with a file's values over them."""
    settings = Settings.load(config)
    values = Settings.model_json_schema() if schema else settings.model_dump(mode="json")
    typer.echo(json.dumps(values, indent=2) if as_json else yaml.safe_dump(values, sort_keys=False).rstrip())


@app.command()
def decisions(
    last: Annotated[int, typer.Option(min=1, help="How many, the latest first.")] = 20,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant, as organisation/workspace.")] = None,
    replica: Annotated[str | None, typer.Option(help="Only those that chose this replica.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only reasons that contain this.")] = None,
    min_error: Annotated[
        int | None, typer.Option(help="Only where predicted and reported cached tokens differ by this or more.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only later than this: 10m, 2h, 1d, or an ISO time.")] = None,
    id: Annotated[str | None, typer.Option("--id", help="Explain one decision in words (a prefix of its id).")] = None,
    state: State = STATE,
    as_json: Json = False,
) -> None:
    """Ask where requests went, and why."""
    store = Decisions(state / "decisions.sqlite")
    rows = store.find(
        last=last,
        tenant=tenant,
        replica=replica,
        reason=reason,
        min_error=min_error,
        since=epoch(since) if since else None,
        id=id,
    )
    if as_json:
        typer.echo(json.dumps([row.to_json() for row in rows], indent=2))
    elif id is not None:
        typer.echo("\n\n".join(explain(row) for row in rows) or f"no decision has an id that begins with {id}")
    else:
        show_decisions(rows, console)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the report, the plot and the logs go.")] = Path(".demo"),
    as_json: Json = False,
) -> None:
    """Run real conversations of two tenants under three routings, and compare them."""
    figures = run_demo(out, Console(stderr=as_json))
    if as_json:
        typer.echo((out / "report.json").read_text().rstrip())
    if any(each.errors for each in figures.values()):
        raise SystemExit(1)


def main() -> None:
    """The console script."""
    for command in entry_points(group=COMMANDS):
        app.add_typer(command.load(), name=command.name)
    try:
        app()
    except (
        AccountsDown,
        AuditFailed,
        BadModel,
        BadUrl,
        ConfigError,
        DemoError,
        NoDecisions,
        NotRunning,
        Refused,
        *ERRORS,
    ) as exc:
        typer.secho(f"kvplane: {exc}", err=True, fg=typer.colors.RED)
        raise SystemExit(2) from exc
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _settings(
    config: Path | None,
    model: str | None,
    replicas: int | None,
    routing: str | None,
    state: Path | None,
    open: bool | None,
) -> Settings:
    return Settings.load(
        config,
        engine=_engine(model),
        replicas={"count": replicas},
        routing=routing if routing == RAY or routing is None else {"name": routing},
        state=state,
        open=open,
    )


def _engine(model: str | None) -> dict[str, str | None] | str:
    return "simulated" if model == "simulated" else {"model": model}
