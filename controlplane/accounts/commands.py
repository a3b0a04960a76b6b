"""`kvplane tenants`: who may ask, and how much; running routers take changes in within a second."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from ..errors import ConfigError
from ..options import STATE, Accounts, Json, State
from .contract import Registry
from .operating import known, named, run
from .public_commands import public
from .tenant import Book, KeyRecord, Rules, Tenant
from .tenants_file import new_key, parse_tenants, record_of, take_in

tenants = typer.Typer(
    name="tenants",
    help="Say who may ask, and how much; running routers follow within a second.",
    no_args_is_help=True,
)
tenants.add_typer(public)
Name = Annotated[str, typer.Argument(metavar="ORGANISATION[/WORKSPACE]")]
RuleTexts = Annotated[
    list[str] | None, typer.Option("--rule", help="name=value; `name=` takes a rule away. See `kvplane tenants rules`.")
]
Isolation = Annotated[str, typer.Option(help="Keys of different isolation keys share no cache.")]


@tenants.command("list")
def list_command(state: State = STATE, accounts: Accounts = None, as_json: Json = False) -> None:
    """Show all tenants, their rules, and which keys speak for them."""
    book = run(state, accounts, lambda registry: registry.read())
    if as_json:
        typer.echo(json.dumps([_row(tenant, _keys_of(book, tenant)) for tenant in _sorted(book)], indent=2))
    else:
        Console().print(_table(book))


@tenants.command()
def create(
    name: Name, rule: RuleTexts = None, isolation_key: Isolation = "", state: State = STATE, accounts: Accounts = None
) -> None:
    """Add a tenant and print its first key, which is shown this once."""
    tenant = _ruled(named(name), rule)

    async def add(registry: Registry) -> str:
        if tenant.name in (await registry.read()).tenants:
            raise ConfigError(f"{tenant.name} is there already; `kvplane tenants key {tenant.name}` makes another key")
        await registry.put(tenant)
        return await _fresh_key(registry, tenant, isolation_key)

    typer.echo(run(state, accounts, add))


@tenants.command()
def key(name: Name, isolation_key: Isolation = "", state: State = STATE, accounts: Accounts = None) -> None:
    """Make another key for a tenant and print it, this once."""

    async def add(registry: Registry) -> str:
        return await _fresh_key(registry, await known(registry, name), isolation_key)

    typer.echo(run(state, accounts, add))


@tenants.command("set")
def set_command(
    name: Name,
    rule: RuleTexts = None,
    disabled: Annotated[bool | None, typer.Option("--disabled/--enabled", help="Whether it may ask at all.")] = None,
    state: State = STATE,
    accounts: Accounts = None,
) -> None:
    """Change a tenant's rules, or turn it off or on."""

    async def change(registry: Registry) -> Tenant:
        tenant = _ruled(await known(registry, name), rule)
        if disabled is not None:
            tenant = tenant.model_copy(update={"disabled": disabled})
        await registry.put(tenant)
        return tenant

    tenant = run(state, accounts, change)
    typer.echo(f"{tenant.name}: {_said(tenant)}")


@tenants.command("rotate-salt")
def rotate_salt_command(name: Name, state: State = STATE, accounts: Accounts = None) -> None:
    """Put all that is cached for a tenant out of anyone's reach, for good: what an incident calls for.

    Its requests go on, and compute what they need anew.
    """

    async def change(registry: Registry) -> Tenant:
        tenant = await known(registry, name)
        tenant = tenant.model_copy(update={"salt_epoch": tenant.salt_epoch + 1})
        await registry.put(tenant)
        return tenant

    tenant = run(state, accounts, change)
    typer.echo(f"{tenant.name}: salt epoch {tenant.salt_epoch}")


@tenants.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="The key's id, or as much of it as tells it apart.")],
    state: State = STATE,
    accounts: Accounts = None,
) -> None:
    """Forget a key: requests that bring it are refused within a second."""
    if not run(state, accounts, lambda registry: registry.revoke(key_id)):
        raise ConfigError(f"no key has an id that begins with {key_id}; see `kvplane tenants list`")


@tenants.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(help="A YAML file of tenants, their rules and keys.")],
    state: State = STATE,
    accounts: Accounts = None,
) -> None:
    """Add what a tenants file lists; who is there already is changed to what it says."""
    try:
        rows = parse_tenants(file.read_text(), str(file))
    except OSError as exc:
        raise ConfigError(f"{file} cannot be read: {exc}") from exc
    run(state, accounts, lambda registry: take_in(registry, rows))
    typer.echo(f"{len(rows)} tenants, {sum(len(row.keys) for row in rows)} keys")


@tenants.command()
def rules() -> None:
    """Print every rule with its type, bounds and meaning."""
    typer.echo(json.dumps(Rules.model_json_schema()["properties"], indent=2))


async def _fresh_key(registry: Registry, tenant: Tenant, isolation_key: str) -> str:
    fresh = new_key(tenant.organisation)
    await registry.add_key(record_of(fresh, tenant, isolation_key))
    return fresh


def _ruled(tenant: Tenant, texts: Sequence[str] | None) -> Tenant:
    """The tenant with some rules changed. Raises `ConfigError`."""
    values: dict[str, Any] = tenant.rules.model_dump(exclude_unset=True)  # Any: of each rule's own type
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or name not in Rules.model_fields:
            raise ConfigError(f"a rule is name=value, its name one of {', '.join(Rules.model_fields)}; got {text!r}")
        values.pop(name, None)
        if value:
            values[name] = value
    try:
        return tenant.model_copy(update={"rules": Rules.model_validate(values)})
    except ValidationError as exc:
        raise ConfigError(f"{tenant.name}: {exc}") from exc


def _sorted(book: Book) -> list[Tenant]:
    return sorted(book.tenants.values(), key=lambda tenant: tenant.name)


def _keys_of(book: Book, tenant: Tenant) -> list[KeyRecord]:
    own = (record for record in book.keys.values() if record.tenant == tenant.name)
    return sorted(own, key=lambda record: (record.created_s, record.digest))


def _row(tenant: Tenant, keys: Sequence[KeyRecord]) -> Mapping[str, object]:
    shown = [record.model_dump(exclude={"digest", "tenant"}) | {"id": record.id} for record in keys]
    return {"tenant": tenant.name, **tenant.model_dump(exclude={"organisation", "workspace"}), "keys": shown}


def _said(tenant: Tenant) -> str:
    changed = tenant.rules.model_dump(exclude_defaults=True)
    return (
        ", ".join([*(["disabled"] if tenant.disabled else []), *(f"{k}={v}" for k, v in changed.items())]) or "no rules"
    )


def _table(book: Book) -> Table:
    table = Table("tenant", "rules", "keys (id, last characters)", box=None, pad_edge=False)
    for tenant in _sorted(book):
        keys = [f"{record.id} …{record.hint}" for record in _keys_of(book, tenant)]
        table.add_row(tenant.name, _said(tenant), "\n".join(keys) or "none: nobody can ask")
    return table
