"""How an operator's command reaches the accounts, and finds the tenant that it names."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from ..errors import AccountsDown, ConfigError
from ..operator import ACCOUNTS_FILE
from .contract import Registry
from .redis_accounts import RedisAccounts
from .settings import AccountsSettings, open_accounts
from .tenant import Tenant

T = TypeVar("T")


def run(state: Path, url: str | None, ask: Callable[[RedisAccounts], Awaitable[T]]) -> T:
    """Ask the accounts of a URL, or of a state folder. Raises `AccountsDown`."""
    path = state / ACCOUNTS_FILE
    if url is None and not path.exists():
        raise AccountsDown(
            f"{path} is not there; start an application with `kvplane up`, or name its state folder by --state"
        )

    async def asking() -> T:
        async with open_accounts(url or path.read_text().strip(), AccountsSettings()) as accounts:
            return await ask(accounts)

    return asyncio.run(asking())


def named(name: str) -> Tenant:
    """A tenant of this name, without rules. Raises `ConfigError` for what cannot be one."""
    organisation, _, workspace = name.partition("/")
    try:
        return Tenant(organisation=organisation, workspace=workspace or "default")
    except ValidationError as exc:
        raise ConfigError(f"a tenant is organisation or organisation/workspace; got {name!r}: {exc}") from exc


async def known(registry: Registry, name: str) -> Tenant:
    """The tenant of this name. Raises `ConfigError` where there is none."""
    book, wanted = await registry.read(), named(name).name
    if wanted not in book.tenants:
        raise ConfigError(f"{wanted} is not there; there are {', '.join(sorted(book.tenants)) or 'no tenants'}")
    return book.tenants[wanted]
