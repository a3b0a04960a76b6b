"""Policies as a command line names them: `dynamo:prefill_load_scale=16,estimated_ttft`."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ...policies import PolicyName, PolicySettings

_PEERS = ("estimated_ttft", "dynamo", "lmetric", "least_loaded", "round_robin")
DEFAULT = ",".join(dict.fromkeys((PolicySettings().name, *_PEERS)))


class BadPolicy(Exception):
    """A policy or a knob that there is not, or a value that it does not take: what was wanted, what came."""


def contenders(text: str) -> Mapping[str, PolicySettings]:
    """Policies by how they were typed: commas between them, `:knob=value` behind a name. Raises `BadPolicy`.

    A knob within a knob has a dot: `rates.base_ms`.
    """
    found: dict[str, PolicySettings] = {}
    for label in filter(None, map(str.strip, text.split(","))):
        if label in found:
            raise BadPolicy(f"wanted each policy once; got {label} twice")
        name, *knobs = label.split(":")
        found[label] = _settings(policy_named(name), [_pair(name, knob) for knob in knobs])
    if not found:
        raise BadPolicy(f"wanted a policy of {', '.join(get_args(PolicyName))}; got none")
    return found


def policy_named(name: str) -> PolicyName:
    """The name, if there is such a policy. Raises `BadPolicy`."""
    known: Sequence[PolicyName] = get_args(PolicyName)
    for each in known:
        if each == name:
            return each
    raise BadPolicy(f"there is no policy {name[:80]!r}{_hint(name, known)}; policies are {', '.join(known)}")


def _pair(name: str, knob: str) -> tuple[str, str]:
    key, equals, value = knob.partition("=")
    if not equals:
        raise BadPolicy(f"wanted {name}:knob=value; got {name}:{knob}")
    return key, value


def _settings(name: PolicyName, knobs: Sequence[tuple[str, str]]) -> PolicySettings:
    field = PolicySettings.model_fields.get(name)
    if knobs and field is None:
        raise BadPolicy(f"{name} has no knobs; got {knobs[0][0]}={knobs[0][1]}")
    known = list(_knobs(type(field.default))) if field is not None else []
    for key, _ in knobs:
        if key not in known:
            raise BadPolicy(f"{name} has no knob {key!r}{_hint(key, known)}; its knobs are {', '.join(known)}")
    try:
        return PolicySettings.model_validate({"name": name} | ({name: _nested(knobs)} if knobs else {}))
    except ValidationError as exc:
        wrong = exc.errors()[0]
        knob, why = ".".join(map(str, wrong["loc"][1:])), wrong["msg"]
        raise BadPolicy(f"{name}:{knob}: {why[:1].lower()}{why[1:]}; got {wrong['input']}") from exc


def _nested(knobs: Sequence[tuple[str, str]]) -> dict[str, Any]:  # Any: dictionaries to any depth
    values: dict[str, Any] = {}
    for key, value in knobs:
        *outer, last = key.split(".")
        within = values
        for each in outer:
            within = within.setdefault(each, {})
        if last in within:
            raise BadPolicy(f"wanted each knob once; got {key} twice")
        within[last] = value
    return values


def _knobs(settings: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in settings.model_fields.items():
        if isinstance(field.default, BaseModel):
            yield from _knobs(type(field.default), f"{prefix}{name}.")
        else:
            yield prefix + name


def _hint(came: str, known: Sequence[str]) -> str:
    close = get_close_matches(came, known, n=1)
    return f" (is it {close[0]}?)" if close else ""
