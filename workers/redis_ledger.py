"""The ledger in Redis: two hashes for each tenant and day, of what replicas counted and of what routers observed.

A field for each attempt, written once by HSETNX.
"""

from collections.abc import AsyncIterator

import msgspec

from ..directory import BadMessage, PagesDown, RedisClient
from .ledger import LedgerDown, Usage, joined

_BATCH = 1000

_decoder = msgspec.msgpack.Decoder(Usage)


class RedisLedger:
    """In a server that evicts nothing, and answers once its disk has it."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def write(self, usage: Usage) -> bool:
        key = _key(usage.tenant, usage.day, usage.observed)
        field, value = f"{usage.decision}.{usage.attempt}", msgspec.msgpack.encode(usage)
        try:
            return bool(await self._client.call(key, "HSETNX", key, field, value))
        except (PagesDown, BadMessage) as exc:
            raise LedgerDown(f"usage cannot be written: {exc.__cause__ or exc}") from exc

    async def read(self, tenant: str, day: str) -> AsyncIterator[Usage]:
        observed = {usage.of_attempt: usage async for usage in self._scan(_key(tenant, day, observed=True))}
        async for usage in joined(self._scan(_key(tenant, day, observed=False)), observed):
            yield usage

    async def _scan(self, key: str) -> AsyncIterator[Usage]:
        cursor, seen = "0", set[bytes]()
        while True:
            try:
                reply = await self._client.call(key, "HSCAN", key, cursor, "COUNT", _BATCH)
            except (PagesDown, BadMessage) as exc:
                raise LedgerDown(f"usage cannot be read: {exc.__cause__ or exc}") from exc
            cursor, parts = reply[0].decode(), reply[1]
            for field, value in zip(parts[::2], parts[1::2], strict=True):
                if field not in seen:  # a scan may give one twice
                    seen.add(field)
                    yield _decoder.decode(value)
            if cursor == "0":
                return


def _key(tenant: str, day: str, observed: bool) -> str:
    return f"{{kvplane:usage:{tenant}}}:{day}{':observed' if observed else ''}"
