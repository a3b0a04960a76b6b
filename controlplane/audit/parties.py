"""Who attacks whom at which level, from the keys that the operator gives."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from ..accounts import parse_tenants
from .errors import AuditFailed


class Level(StrEnum):
    """How far apart victim and attacker are."""

    ORGANISATIONS = "organisations"
    WORKSPACES = "workspaces"  # of one organisation
    WITHIN = "within"  # the same key: the positive control


CROSS = (Level.ORGANISATIONS, Level.WORKSPACES)


@dataclass(frozen=True, slots=True)
class Party:
    """A tenant, as organisation/workspace, and a key of it."""

    name: str
    key: str = field(repr=False)

    @property
    def organisation(self) -> str:
        return self.name.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Pair:
    """Who asks first, and who tries to see it."""

    victim: Party
    attacker: Party


def read_parties(file: Path | None, given: Sequence[str]) -> Sequence[Party]:
    """Tenants of a file, and those given as organisation/workspace=key. Raises `AuditFailed` and `ConfigError`."""
    keys: dict[str, str] = {}
    if file is not None:
        try:
            rows = [row for row in parse_tenants(file.read_text(), str(file)) if not row.disabled]
        except OSError as exc:
            raise AuditFailed(f"the tenants file cannot be read: {exc}; name one by --keys, or keys by --key") from exc
        keys |= {row.name: row.keys[0].get_secret_value() for row in rows}
    for number, words in enumerate(given, 1):
        name, _, key = words.partition("=")
        if not key or not all(name.partition("/")):  # what came may be a key by itself, so it is not shown
            raise AuditFailed(f"--key takes organisation/workspace=key; the one at place {number} is otherwise")
        keys[name] = key
    return [Party(name, key) for name, key in keys.items()]


def pair_up(parties: Sequence[Party], levels: Collection[Level]) -> Mapping[Level, Pair]:
    """One attacker, and a victim for each level; the control is always among them. Raises `AuditFailed`."""
    wanted = [level for level in Level if level in levels or level is Level.WITHIN]
    for attacker in parties:
        victims = {level: victim for level in wanted if (victim := _victim(level, attacker, parties))}
        if len(victims) == len(wanted):
            return {level: Pair(victim, attacker) for level, victim in victims.items()}
    raise AuditFailed(
        "wanted a tenant with, for organisations, one of another organisation beside it and, for workspaces, another"
        f" of its own; got {', '.join(party.name for party in parties) or 'no keys'}; name more by --keys or --key, or"
        " fewer levels by --level"
    )


def _victim(level: Level, attacker: Party, parties: Sequence[Party]) -> Party | None:
    if level is Level.WITHIN:
        return attacker
    same = level is Level.WORKSPACES
    others = (other for other in parties if other.name != attacker.name)
    return next((other for other in others if (other.organisation == attacker.organisation) is same), None)
