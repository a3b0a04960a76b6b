"""The ledger in Redis: a hash for each tenant and day, a field for each attempt, written once by HSETNX."""

from collections.abc import AsyncIterator

import msgspec

from ..directory import BadMessage, PagesDown, RedisClient
from .ledger import LedgerDown, Usage

_BATCH = 1000

_decoder = msgspec.msgpack.Decoder(Usage)


class RedisLedger:
    """In a server that evicts nothing, and answers once its disk has it."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def write(self, usage: Usage) -> bool:
        key = _key(usage.tenant, usage.day)
        field, value = f"{usage.decision}.{usage.attempt}", msgspec.msgpack.encode(usage)
        try:
            return bool(await self._client.call(key, "HSETNX", key, field, value))
        except (PagesDown, BadMessage) as exc:
            raise LedgerDown(f"usage cannot be written: {exc.__cause__ or exc}") from exc

    async def read(self, tenant: str, day: str) -> AsyncIterator[Usage]:
        key, cursor, seen = _key(tenant, day), "0", set[bytes]()
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


def _key(tenant: str, day: str) -> str:
    return f"{{kvplane:usage:{tenant}}}:{day}"
