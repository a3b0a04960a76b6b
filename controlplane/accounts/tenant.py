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
    admit_from: int = Field(
        default=1, ge=1, le=255, description="over that share, the sighting of a prefix that makes it worth room"
    )
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
    salt_epoch: int = Field(default=0, ge=0, description="only rises: what was cached under a lower one is lost")
    rules: Rules = Rules()

    @property
    def name(self) -> str:
        """What traces and commands call it."""
        return f"{self.organisation}/{self.workspace}"

    def domain(self, isolation_key: str) -> Domain:
        """The scope that a key of it is bound to."""
        return Domain(self.organisation, self.workspace, isolation_key, salt_epoch=self.salt_epoch)


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


class PublicPrefix(BaseModel):
    """A system prompt whose cache some tenants share, because an operator says so."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field(pattern=_NAME)
    system: str = Field(min_length=1, max_length=1 << 20, description="the system message, to the letter")
    tenants: tuple[str, ...] = Field(min_length=1, description="organisation/workspace, each")

    @property
    def domain(self) -> Domain:
        """The scope of its cache. No key is bound to it: every tenant's organisation has a name."""
        return Domain("", self.name)


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
    """All tenants, keys and public prefixes as of one revision."""

    revision: int
    tenants: Mapping[str, Tenant]
    keys: Mapping[str, KeyRecord]  # by digest
    public: Mapping[str, PublicPrefix] = field(default_factory=dict)
    _callers: dict[str, Caller] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        callers = {
            digest: Caller(tenant, tenant.domain(key.isolation_key))
            for digest, key in self.keys.items()
            if (tenant := self.tenants.get(key.tenant)) is not None
        }
        object.__setattr__(self, "_callers", callers)

    @property
    def domains(self) -> frozenset[Domain]:
        """Every domain that some key is bound to, and public ones; what a rule subdivides is not known beforehand."""
        bound = (caller.domain for caller in self._callers.values())
        return frozenset((*bound, *(prefix.domain for prefix in self.public.values())))

    def caller(self, key: str) -> Caller | None:
        """Who an API key speaks for; None for a key that is nobody's."""
        return self._callers.get(digest_of(key))


NO_BOOK = Book(-1, {}, {})
EVERYONE = Tenant(organisation="local")  # where no key is asked for


def digest_of(key: str) -> str:
    """What is kept of a key. It has 128 random bits, so a plain hash cannot be searched."""
    return hashlib.sha256(key.encode()).hexdigest()
