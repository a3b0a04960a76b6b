"""`kvplane tenants public`: system prompts whose cache tenants share; running routers follow within a second."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from ..errors import ConfigError
from ..options import STATE, Accounts, Json, State
from .operating import known, run
from .redis_accounts import RedisAccounts
from .tenant import PublicPrefix

_SHOWN = 60  # characters of a system prompt

public = typer.Typer(
    name="public",
    help="System prompts whose cache the tenants that you name share.",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(metavar="NAME")]
Tenants = Annotated[str, typer.Option("--for", metavar="TENANTS", help="organisation/workspace, separated by commas.")]


@public.command()
def add(
    name: Name,
    tenants: Tenants,
    file: Annotated[Path | None, typer.Option(help="A text file that is the system prompt, to the letter.")] = None,
    system: Annotated[str | None, typer.Option(help="The system prompt itself.")] = None,
    state: State = STATE,
    accounts: Accounts = None,
) -> None:
    """Register a system prompt as shared; of a name that is there already, text and tenants are replaced."""
    text = _text(file, system)

    async def publish(registry: RedisAccounts) -> PublicPrefix:
        named = [(await known(registry, each.strip())).name for each in tenants.split(",")]
        try:
            prefix = PublicPrefix(name=name, system=text, tenants=tuple(dict.fromkeys(named)))
        except ValidationError as exc:
            raise ConfigError(f"a public prefix has a short plain name and a text; {name!r}: {exc}") from exc
        await registry.publish(prefix)
        return prefix

    prefix = run(state, accounts, publish)
    typer.echo(f"{prefix.name}: {len(text)} characters, shared by {', '.join(prefix.tenants)}")


@public.command("list")
def list_command(state: State = STATE, accounts: Accounts = None, as_json: Json = False) -> None:
    """Show what is shared, and by whom."""
    book = run(state, accounts, lambda registry: registry.read())
    if as_json:
        rows = [prefix.model_dump() for _, prefix in sorted(book.public.items())]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        Console().print(_table(book.public))


@public.command()
def remove(name: Name, state: State = STATE, accounts: Accounts = None) -> None:
    """Share a system prompt no longer; what is cached of it is found by nobody and makes room."""
    if not run(state, accounts, lambda registry: registry.withdraw(name)):
        raise ConfigError(f"no public prefix is called {name!r}; see `kvplane tenants public list`")


def _text(file: Path | None, system: str | None) -> str:
    if (file is None) == (system is None):
        raise ConfigError("a system prompt comes by --file or by --system; give one of them")
    if file is None:
        return system or ""
    try:
        return file.read_bytes().decode()  # no line end is changed
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{file} cannot be read as text: {exc}") from exc


def _table(prefixes: Mapping[str, PublicPrefix]) -> Table:
    table = Table("public prefix", "tenants", "characters", "begins", box=None, pad_edge=False)
    for name, prefix in sorted(prefixes.items()):
        begins = " ".join(prefix.system.split())[:_SHOWN]
        table.add_row(name, "\n".join(prefix.tenants), str(len(prefix.system)), begins)
    return table
