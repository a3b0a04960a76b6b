"""Whose key is this: API keys to domains, read from a YAML file.

tenants:
  - organisation: acme
    workspace: support      # optional, "default" if absent
    keys: [sk-acme-...]     # at least 16 characters each
"""

import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from ..directory import Domain
from .errors import ConfigError

_KEY_CHARACTERS = 16
_NAME = r"^[a-z0-9][a-z0-9_.-]{0,62}$"


class Tenant(BaseModel):
    """One who pays, and the keys that speak for it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    organisation: str = Field(pattern=_NAME)
    workspace: str = Field(default="default", pattern=_NAME)
    keys: tuple[SecretStr, ...] = Field(min_length=1)


class TenantsFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    tenants: tuple[Tenant, ...] = Field(min_length=1)


class Tenants:
    """Looks up keys by their SHA-256, so that neither time nor memory shows them."""

    def __init__(self, by_digest: Mapping[bytes, Domain]) -> None:
        self._by_digest = by_digest

    @property
    def domains(self) -> frozenset[Domain]:
        """Every domain that some key is bound to."""
        return frozenset(self._by_digest.values())

    def domain(self, key: str) -> Domain | None:
        """The domain a key is bound to; None for a key that is nobody's."""
        return self._by_digest.get(_digest(key))


def parse_tenants(text: str, where: str) -> Tenants:
    """Read and check a tenants file's text. Raises `ConfigError` that says what is wrong where."""
    by_digest: dict[bytes, Domain] = {}
    for tenant in _parse(text, where).tenants:
        for key in tenant.keys:
            secret = key.get_secret_value()
            if len(secret) < _KEY_CHARACTERS:
                wanted = f"{_KEY_CHARACTERS} characters or more"
                raise ConfigError(
                    f"{where}: a key of {tenant.organisation} has {len(secret)} characters; give it {wanted}"
                )
            if by_digest.setdefault(_digest(secret), _domain(tenant)) != _domain(tenant):
                raise ConfigError(f"{where}: one key stands under two tenants, {tenant.organisation} the second")
    return Tenants(by_digest)


def write_example(path: Path) -> None:
    """Make a file of two tenants with fresh keys, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"organisation": name, "keys": [f"sk-{name}-{secrets.token_hex(16)}"]} for name in ("acme", "globex")]
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump({"tenants": rows}, sort_keys=False))


def first_keys(path: Path) -> dict[str, str]:
    """One key per organisation, for a banner or a demo on the machine that holds the file."""
    tenants = _parse(path.read_text(), str(path)).tenants
    return {tenant.organisation: tenant.keys[0].get_secret_value() for tenant in tenants}


def label(domain: Domain) -> str:
    """What a trace calls a tenant."""
    return f"{domain.organisation}/{domain.workspace}"


def _parse(text: str, where: str) -> TenantsFile:
    try:
        return TenantsFile.model_validate(yaml.safe_load(text))
    except yaml.MarkedYAMLError as exc:  # its own text, and so its cause's, shows the lines around: keys
        place = f" in line {exc.problem_mark.line + 1}" if exc.problem_mark else ""
        raise ConfigError(f"{where}: {exc.problem}{place}") from None
    except ValidationError as exc:
        raise ConfigError(f"{where}: {exc}") from exc


def _domain(tenant: Tenant) -> Domain:
    return Domain(tenant.organisation, tenant.workspace)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
