"""Who may ask, and how much: tenants, their rules, and the keys that speak for them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ...directory import Domain

_NAME = r"^[a-z0-9][a-z0-9_.-]{0,62}$"

OverLimit = Literal["reject", "confine", "bypass"]
Subdivider = Literal["user", "safety_identifier", "prompt_cache_key"]


class Rules(BaseModel):
    """What a tenant may; None sets no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1, description="of prompts and of what may be generated")
    concurrency: int | None = Field(default=None, ge=1, description="requests at the same time")
    write_blocks_per_minute: int | None = Field(
        default=None, ge=1, description="blocks that may be written into caches"
    )
    write_burst_blocks: int | None = Field(default=None, ge=1, description="at once; a minute's worth if unset")
    over_write_limit: OverLimit = Field(
        default="confine", description="429, a slice of the replicas, or a prompt whose cache nobody will find"
    )
    resident_share: float | None = Field(default=None, gt=0, le=1, description="of the fleet's blocks")
    weight: float = Field(default=1.0, gt=0, le=1000, description="of its turns where requests queue")
    subdivide_by: Subdivider | None = Field(
        default=None, description="a field of the body whose values share no cache with one another"
    )


class Tenant(BaseModel):
    """One who pays: an organisation's workspace."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    organisation: str = Field(pattern=_NAME)
    workspace: str = Field(default="default", pattern=_NAME)
    disabled: bool = False
    rules: Rules = Rules()

    @property
    def name(self) -> str:
        """What traces and commands call it."""
        return f"{self.organisation}/{self.workspace}"


class KeyRecord(BaseModel):
    """An API key as it is kept: its digest, never itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the key, in hex")
    tenant: str = Field(description="organisation/workspace")
    isolation_key: str = Field(default="", max_length=128, description="keys of different ones share no cache")
    hint: str = Field(default="", max_length=8, description="the key's last characters, to tell it by")
    created_s: float = Field(default=0.0, ge=0, description="Unix time")

    @property
    def id(self) -> str:
        """What commands call it."""
        return self.digest[:12]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a key speaks for, and the scope its cache is in."""

    tenant: Tenant
    domain: Domain

    def within(self, part: str | None) -> "Caller":
        """The same in a part of its domain of its own."""
        return replace(self, domain=replace(self.domain, part=part)) if part else self


@dataclass(frozen=True, slots=True)
class Book:
    """All tenants and keys as of one revision."""

    revision: int
    tenants: Mapping[str, Tenant]
    keys: Mapping[str, KeyRecord]  # by digest
    _callers: dict[str, Caller] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        callers = {
            digest: Caller(tenant, Domain(tenant.organisation, tenant.workspace, key.isolation_key))
            for digest, key in self.keys.items()
            if (tenant := self.tenants.get(key.tenant)) is not None
        }
        object.__setattr__(self, "_callers", callers)

    @property
    def domains(self) -> frozenset[Domain]:
        """Every domain that some key is bound to; what a rule subdivides is not known beforehand."""
        return frozenset(caller.domain for caller in self._callers.values())

    def caller(self, key: str) -> Caller | None:
        """Who an API key speaks for; None for a key that is nobody's."""
        return self._callers.get(digest_of(key))


NO_BOOK = Book(-1, {}, {})
EVERYONE = Tenant(organisation="local")  # where no key is asked for


def digest_of(key: str) -> str:
    """What is kept of a key. It has 128 random bits, so a plain hash cannot be searched."""
    return hashlib.sha256(key.encode()).hexdigest()
