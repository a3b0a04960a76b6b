"""Accounts in Redis: the registry in four keys, a bucket or claim in one each, and every change one script."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ...directory import BadMessage, PagesDown, RedisClient, Script
from ...directory.epochs import NameEpochs
from ..errors import AccountsDown
from .contract import GRAIN_S, MAX_DEBT, Lease, Rate
from .refusals import (
    anothers_key,
    check_claim,
    check_key_id,
    check_lease,
    check_units,
    epoch_ends_still,
    no_such_tenant,
    several_keys,
)
from .tenant import Book, KeyRecord, PublicPrefix, Tenant

log = logging.getLogger(__name__)

_Record = TypeVar("_Record", bound=BaseModel)

_LUA = Path(__file__).parent / "lua"
_TENANTS, _KEYS, _REVISION, _PUBLIC, _EPOCHS = (
    f"{{kvplane:accounts}}:{part}" for part in ("tenants", "keys", "revision", "public", "epochs")
)


class RedisAccounts:
    """A registry and buckets, for all routers and commands of one deployment.

    What is acknowledged outlives Redis if it appends to its file before it answers (`appendfsync always`) and evicts
    nothing (`maxmemory-policy noeviction`). A bucket that is full and a claim that has ended take no memory.
    """

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._read = Script(_LUA / "read.lua")
        self._put = Script(_LUA / "put.lua")
        self._add_key = Script(_LUA / "add_key.lua")
        self._revoke = Script(_LUA / "revoke.lua")
        self._withdraw = Script(_LUA / "withdraw.lua")
        self._epochs = Script(_LUA / "epochs.lua")
        self._begin_epoch = Script(_LUA / "begin_epoch.lua")
        self._end_epoch = Script(_LUA / "end_epoch.lua")
        self._lease = Script(_LUA / "lease.lua")
        self._give_back = Script(_LUA / "give_back.lua")
        self._claim = Script(_LUA / "claim.lua")
        self._unread: set[str] = set()

    async def revision(self) -> int:
        with _answering():
            return int(await self._client.call(_REVISION, "GET", _REVISION) or 0)

    async def read(self) -> Book:
        with _answering():
            registry = (_TENANTS, _KEYS, _REVISION, _PUBLIC)
            revision, tenants, keys, public = await self._client.run(self._read, registry)
        return Book(
            revision,
            {tenant.name: tenant for tenant in self._records(Tenant, tenants)},
            {key.digest: key for key in self._records(KeyRecord, keys)},
            {prefix.name: prefix for prefix in self._records(PublicPrefix, public)},
        )

    async def put(self, tenant: Tenant) -> None:
        with _answering():
            await self._client.run(self._put, (_TENANTS, _REVISION), tenant.name, _text(tenant))

    async def add_key(self, key: KeyRecord) -> None:
        with _answering():
            revision = await self._client.run(
                self._add_key, (_TENANTS, _KEYS, _REVISION), key.tenant, key.digest, _text(key)
            )
        if revision == 0:
            raise no_such_tenant(key)
        if revision < 0:
            raise anothers_key(key)

    async def revoke(self, key_id: str) -> bool:
        check_key_id(key_id)
        with _answering():
            found: int = await self._client.run(self._revoke, (_KEYS, _REVISION), key_id)
        if found > 1:
            raise several_keys(key_id, found)
        return found == 1

    async def publish(self, prefix: PublicPrefix) -> None:
        with _answering():
            await self._client.run(self._put, (_PUBLIC, _REVISION), prefix.name, _text(prefix))

    async def withdraw(self, name: str) -> bool:
        with _answering():
            return bool(await self._client.run(self._withdraw, (_PUBLIC, _REVISION), name))

    async def epochs(self) -> NameEpochs:
        with _answering():
            flat = await self._client.run(self._epochs, (_EPOCHS,))
        return NameEpochs(*map(int, flat))

    async def begin_epoch(self) -> NameEpochs:
        with _answering():
            present = int(await self._client.run(self._begin_epoch, (_EPOCHS,)))
        if not present:
            raise epoch_ends_still()
        return NameEpochs(present, present - 1)

    async def end_epoch(self, present: int) -> None:
        with _answering():
            await self._client.run(self._end_epoch, (_EPOCHS,), present)

    async def lease(self, bucket: str, rate: Rate, need: float, want: float) -> Lease:
        check_lease(bucket, need, want)
        amounts = _texts(rate.per_s, rate.burst, need, want, MAX_DEBT, GRAIN_S)
        with _answering():
            taken, retry_s, left = await self._client.run(self._lease, _bucket_keys(bucket), *amounts)
        return Lease(float(taken), float(retry_s), float(left))

    async def give_back(self, bucket: str, rate: Rate, units: float) -> None:
        check_units(bucket, units)
        amounts = _texts(rate.per_s, rate.burst, units, MAX_DEBT)
        with _answering():
            await self._client.run(self._give_back, _bucket_keys(bucket), *amounts)

    async def claim(self, name: str, router: str, wanted: int, limit: int, ttl_s: float) -> int:
        check_claim(name, router, wanted, ttl_s)
        ttl_us = max(1, round(ttl_s * 1e6))
        with _answering():
            return int(await self._client.run(self._claim, _claim_keys(name), router, wanted, limit, ttl_us))

    def _records(self, kind: type[_Record], flat: Sequence[bytes]) -> Iterator[_Record]:
        """Those that this version can read: one that a later version wrote costs its tenant, not all of them."""
        for name, value in zip(flat[::2], flat[1::2], strict=True):
            try:
                yield kind.model_validate_json(value)
            except ValidationError as exc:
                self._say_once(f"{kind.__name__} {name.decode(errors='replace')}", exc)

    def _say_once(self, what: str, why: ValidationError) -> None:
        if what not in self._unread:
            self._unread.add(what)
            first = why.errors()[0]
            field = ".".join(map(str, first["loc"]))
            log.warning("%s is left out, for this version cannot read its record: %s %s", what, field, first["msg"])


def _bucket_keys(bucket: str) -> Sequence[str]:
    return (f"{{kvplane:{bucket}}}:bucket",)


def _claim_keys(name: str) -> Sequence[str]:
    return (f"{{kvplane:{name}}}:claims",)


def _text(record: BaseModel) -> str:
    """Only what differs from the defaults, so that an older version reads what makes no use of a newer field."""
    return record.model_dump_json(exclude_defaults=True)


def _texts(*amounts: float) -> Sequence[str]:
    return [repr(float(amount)) for amount in amounts]


@contextmanager
def _answering() -> Iterator[None]:
    """The client's failures as the accounts' own; their cause is what Redis itself said, or the socket."""
    try:
        yield
    except (PagesDown, BadMessage) as exc:
        said = str(exc.__cause__) or "no answer in time"
        raise AccountsDown(
            f"the accounts store does not do what it is asked; see that its Redis is up: {said}"
        ) from exc
