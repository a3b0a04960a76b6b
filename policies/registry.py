"""Policies by name: build one, replay what one decided, or list the settings worth trying."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from pydantic import BaseModel, ConfigDict

from . import (
    adaptive,
    consistent_hash,
    dynamo,
    estimated_ttft,
    least_loaded,
    least_recently_used,
    lmetric,
    longest_prefix,
    power_of_two,
    preble,
    random_choice,
    round_robin,
    smg,
)
from .adaptive import AdaptiveSettings
from .consistent_hash import ConsistentHashSettings
from .contract import Candidate, Choice, Policy, RoutedRequest
from .dynamo import DynamoSettings
from .estimated_ttft import EstimatedTtftSettings
from .preble import PrebleSettings
from .smg import SmgSettings

Knobs = Mapping[str, float]
PolicyName = Literal[
    "round_robin",
    "random",
    "least_loaded",
    "power_of_two",
    "least_recently_used",
    "longest_prefix",
    "consistent_hash",
    "dynamo",
    "preble",
    "lmetric",
    "smg",
    "estimated_ttft",
    "adaptive",
]


class PolicySettings(BaseModel):
    """Which policy chooses, and how those that can be tuned are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: PolicyName = "adaptive"
    consistent_hash: ConsistentHashSettings = ConsistentHashSettings()
    dynamo: DynamoSettings = DynamoSettings()
    preble: PrebleSettings = PrebleSettings()
    smg: SmgSettings = SmgSettings()
    estimated_ttft: EstimatedTtftSettings = EstimatedTtftSettings()
    adaptive: AdaptiveSettings = AdaptiveSettings()


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
    knobs: Sequence[Knobs] = ({},)  # the settings worth trying, each by what differs from the default


def _each(knob: str, *values: float) -> list[Knobs]:
    return [{knob: value} for value in values]


def _crossed(left: Iterable[Knobs], right: Iterable[Knobs]) -> list[Knobs]:
    right = list(right)
    return [{**one, **other} for one in left for other in right]


_DYNAMO_AGENTIC = {"prefill_load_scale": 4, "overlap_score_credit": 2, "decode_active_request_weight": 64}  # its preset

_POLICIES: dict[str, _Kind] = {
    "round_robin": _Kind(lambda settings, random: round_robin.RoundRobin(), round_robin.decide, "turns"),
    "random": _Kind(lambda settings, random: random_choice.RandomChoice(random), random_choice.decide, "turns"),
    "least_loaded": _Kind(lambda settings, random: least_loaded.LeastLoaded(random), least_loaded.decide, "tokens"),
    "power_of_two": _Kind(lambda settings, random: power_of_two.PowerOfTwo(random), power_of_two.decide, "tokens"),
    "least_recently_used": _Kind(
        lambda settings, random: least_recently_used.LeastRecentlyUsed(random),
        least_recently_used.decide,
        "decisions",
    ),
    "longest_prefix": _Kind(
        lambda settings, random: longest_prefix.LongestPrefix(random), longest_prefix.decide, "tokens"
    ),
    "consistent_hash": _Kind(
        lambda settings, random: consistent_hash.ConsistentHash(settings.consistent_hash, random),
        consistent_hash.decide,
        "rings",
        _each("load_factor", 1, 1.05, 1.1, 1.25, 1.5, 2, 3, 5),
    ),
    "dynamo": _Kind(
        lambda settings, random: dynamo.Dynamo(settings.dynamo, random),
        dynamo.decide,
        "blocks",
        [
            *_each("prefill_load_scale", 0.25, 1, 2, 4, 8, 16, 64, 256),
            *_crossed(_each("prefill_load_scale", 4, 16, 64), _each("overlap_score_credit", 2)),
            {"prefill_load_scale": 16, "overlap_score_credit_decay": 1},
            _DYNAMO_AGENTIC,
        ],
    ),
    "preble": _Kind(
        lambda settings, random: preble.Preble(settings.preble, random),
        preble.decide,
        "ms",
        _crossed(_each("window_requests", 16, 64, 512), _each("rebalance_ratio", 1.5, 4, 15)),
    ),
    "lmetric": _Kind(lambda settings, random: lmetric.LMetric(random), lmetric.decide, "token-sequences"),
    "smg": _Kind(
        lambda settings, random: smg.Smg(settings.smg, random),
        smg.decide,
        "requests",
        _crossed(
            _each("match_threshold", 0, 0.3, 0.5),
            [
                {"balance_requests": 32, "balance_ratio": 1.1},
                {"balance_requests": 8, "balance_ratio": 1.1},
                {"balance_requests": 2, "balance_ratio": 1.5},
            ],
        ),
    ),
    "estimated_ttft": _Kind(
        lambda settings, random: estimated_ttft.EstimatedTtft(settings.estimated_ttft, random),
        estimated_ttft.decide,
        "ms",
        _each("weight", 0.5, 1, 1.5, 2, 3, 4, 6, 8),
    ),
    "adaptive": _Kind(
        lambda settings, random: adaptive.Adaptive(settings.adaptive, random),
        adaptive.decide,
        "ms",
        _each("weight", 0.5, 1, 1.5, 2, 3, 4, 6, 8),
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


def variants(name: PolicyName) -> Sequence[tuple[str, PolicySettings]]:
    """Give the named policy's settings worth trying, each with a label; one without knobs has one."""
    found = []
    for knobs in _kind(name).knobs:
        label = " ".join([name, *(f"{knob}={value:g}" for knob, value in knobs.items())])
        found.append((label, PolicySettings.model_validate({"name": name} | ({name: knobs} if knobs else {}))))
    return found


def _kind(name: str) -> _Kind:
    if name not in _POLICIES:
        raise UnknownPolicy(name)
    return _POLICIES[name]
