"""Given candidates, choose; given outcomes, learn."""

from .contract import Candidate, Choice, Outcome, Policy, ReplicaId, RoutedRequest
from .ranking import ranked
from .registry import PolicyName, PolicySettings, UnknownPolicy, build_policy, cost_unit, replay, variants
from .round_robin import RoundRobin
from .standing import waits_at_most

__all__ = [
    "Candidate",
    "Choice",
    "Outcome",
    "Policy",
    "PolicyName",
    "PolicySettings",
    "ReplicaId",
    "RoundRobin",
    "RoutedRequest",
    "UnknownPolicy",
    "build_policy",
    "cost_unit",
    "ranked",
    "replay",
    "variants",
    "waits_at_most",
]
