"""Where accounts are, opened."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from ...directory import DirectorySettings, open_client
from .redis_accounts import RedisAccounts


class AccountsSettings(BaseModel):
    """How to reach the store of tenants, limits and usage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: SecretStr | None = Field(
        default=None,
        description="the Redis that keeps them; give it an append-only file. None: one is embedded that has it",
    )
    connect_timeout_s: float = Field(default=1.0, gt=0)
    timeout_s: float = Field(default=2.0, ge=1.0, description="the longest wait for one answer")


@asynccontextmanager
async def open_accounts(url: str, settings: AccountsSettings) -> AsyncIterator[RedisAccounts]:
    """Accounts in the Redis that a URL names. Raises `BadUrl`.

    They open even while Redis is down: then verbs raise `AccountsDown` until it is back.
    """
    reach = DirectorySettings(connect_timeout_s=settings.connect_timeout_s, timeout_s=settings.timeout_s)
    async with open_client(url, reach) as client:
        yield RedisAccounts(client)
