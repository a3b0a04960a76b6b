"""Policies by name: build one, or replay what one decided."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from pydantic import BaseModel, ConfigDict

from . import estimated_ttft, least_loaded, least_recently_used, power_of_two, round_robin
from .contract import Candidate, Choice, Policy, RoutedRequest
from .estimated_ttft import EstimatedTtftSettings

PolicyName = Literal["round_robin", "power_of_two", "least_loaded", "least_recently_used", "estimated_ttft"]


class PolicySettings(BaseModel):
    """Which policy chooses, and how the one that can be tuned is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: PolicyName = "estimated_ttft"
    estimated_ttft: EstimatedTtftSettings = EstimatedTtftSettings()


class UnknownPolicy(Exception):
    """A recorded choice names a policy that this build does not have."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"policies are {', '.join(_POLICIES)}; got {self.name[:80]!r}"


@dataclass(frozen=True, slots=True)
class _Kind:
    build: Callable[[PolicySettings, Random], Policy]
    decide: Callable[[Mapping[str, float], RoutedRequest, Sequence[Candidate]], Choice]
    cost_unit: str


_POLICIES: dict[str, _Kind] = {
    "round_robin": _Kind(lambda settings, random: round_robin.RoundRobin(), round_robin.decide, "turns"),
    "power_of_two": _Kind(lambda settings, random: power_of_two.PowerOfTwo(random), power_of_two.decide, "tokens"),
    "least_loaded": _Kind(lambda settings, random: least_loaded.LeastLoaded(random), least_loaded.decide, "tokens"),
    "least_recently_used": _Kind(
        lambda settings, random: least_recently_used.LeastRecentlyUsed(random),
        least_recently_used.decide,
        "decisions",
    ),
    "estimated_ttft": _Kind(
        lambda settings, random: estimated_ttft.EstimatedTtft(settings.estimated_ttft, random),
        estimated_ttft.decide,
        "ms",
    ),
}


def build_policy(settings: PolicySettings, random: Random) -> Policy:
    """Make the policy that the settings name; all its chance comes from `random`."""
    return _POLICIES[settings.name].build(settings, random)


def replay(name: str, basis: Mapping[str, float], request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
    """Decide again as the named policy did: the same basis, request and candidates give the same choice.

    Raises `UnknownPolicy`.
    """
    return _kind(name).decide(basis, request, candidates)


def cost_unit(name: str) -> str:
    """Say what the named policy's costs count. Raises `UnknownPolicy`."""
    return _kind(name).cost_unit


def _kind(name: str) -> _Kind:
    if name not in _POLICIES:
        raise UnknownPolicy(name)
    return _POLICIES[name]
