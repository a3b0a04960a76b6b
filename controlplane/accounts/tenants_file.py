"""A file of tenants and keys, which accounts that know nobody yet begin with.

tenants:
  - organisation: acme
    workspace: support      # optional, "default" if absent
    keys: [sk-acme-...]     # at least 16 characters each
    rules: {requests_per_minute: 600}   # optional, see `kvplane tenants rules`
"""

import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import Field, SecretStr, ValidationError

from ..errors import ConfigError
from .contract import Registry
from .tenant import KeyRecord, Tenant, digest_of

_KEY_CHARACTERS = 16
_HINT = 4


class TenantKeys(Tenant):
    """One who pays, and the keys that speak for it."""

    isolation_key: str = Field(default="", max_length=128)
    keys: tuple[SecretStr, ...] = Field(min_length=1)

    @property
    def tenant(self) -> Tenant:
        return Tenant(
            organisation=self.organisation,
            workspace=self.workspace,
            disabled=self.disabled,
            salt_epoch=self.salt_epoch,
            rules=self.rules,
        )


def parse_tenants(text: str, where: str) -> Sequence[TenantKeys]:
    """Read and check a tenants file's text. Raises `ConfigError` that says what is wrong where, and shows no key."""
    rows = _parse(text, where)
    owners: dict[str, tuple[str, str]] = {}
    names: set[tuple[str, str]] = set()
    for row in rows:
        for key in row.keys:
            secret, owner = key.get_secret_value(), (row.name, row.isolation_key)
            if len(secret) < _KEY_CHARACTERS:
                wanted = f"{_KEY_CHARACTERS} characters or more"
                raise ConfigError(f"{where}: a key of {row.name} has {len(secret)} characters; give it {wanted}")
            if owners.setdefault(secret, owner) != owner:
                raise ConfigError(f"{where}: one key stands under two tenants, {row.name} the second")
        if (row.name, row.isolation_key) in names:
            raise ConfigError(f"{where}: {row.name} stands twice; give all of its keys in one place")
        names.add((row.name, row.isolation_key))
    return rows


async def take_in(registry: Registry, rows: Sequence[TenantKeys]) -> None:
    """Add tenants and keys; who is there already is changed to what is given, but a salt epoch never goes back."""
    epochs = {tenant.name: tenant.salt_epoch for tenant in (await registry.read()).tenants.values()}
    for row in rows:
        epoch = epochs[row.name] = max(row.salt_epoch, epochs.get(row.name, 0))
        await registry.put(row.tenant.model_copy(update={"salt_epoch": epoch}))
        for key in row.keys:
            await registry.add_key(record_of(key.get_secret_value(), row.tenant, row.isolation_key))


def record_of(key: str, tenant: Tenant, isolation_key: str = "") -> KeyRecord:
    """What is kept of a key."""
    return KeyRecord(
        digest=digest_of(key),
        tenant=tenant.name,
        isolation_key=isolation_key,
        hint=key[-_HINT:],
        created_s=time.time(),
    )


def new_key(organisation: str) -> str:
    """A key that nobody has: 128 random bits."""
    return f"sk-{organisation}-{secrets.token_hex(16)}"


def write_example(path: Path) -> None:
    """Make a file of two tenants with fresh keys, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"organisation": name, "keys": [new_key(name)]} for name in ("acme", "globex")]
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump({"tenants": rows}, sort_keys=False))


def first_keys(path: Path) -> dict[str, str]:
    """One key per organisation, for a banner or a demo on the machine that holds the file."""
    if not path.exists():
        return {}
    return {row.organisation: row.keys[0].get_secret_value() for row in _parse(path.read_text(), str(path))}


def _parse(text: str, where: str) -> Sequence[TenantKeys]:
    try:
        values = yaml.safe_load(text)
        rows = values.pop("tenants", None) if isinstance(values, dict) else None
        if not rows or not isinstance(rows, list) or values:
            raise ConfigError(f"{where}: a tenants file is `tenants:` and under it at least 1 item")
        return [TenantKeys.model_validate(row) for row in rows]
    except yaml.MarkedYAMLError as exc:  # its own text, and so its cause's, shows the lines around: keys
        place = f" in line {exc.problem_mark.line + 1}" if exc.problem_mark else ""
        raise ConfigError(f"{where}: {exc.problem}{place}") from None
    except ValidationError as exc:
        raise ConfigError(f"{where}: {exc}") from exc
