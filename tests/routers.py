"""A router in memory: real directory, real overlay, real decider, and a roster that a test fills."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kvplane.controlplane.decide import Asked, Decider
from kvplane.controlplane.decision import Decision
from kvplane.controlplane.roster import Roster
from kvplane.controlplane.sight import Sight
from kvplane.directory import (
    Changes,
    Domain,
    HolderId,
    Holdings,
    Keyring,
    Level,
    Load,
    MemoryPages,
    Mirror,
    Overlay,
    Prefix,
    Seen,
    Segment,
    domain_key,
)
from kvplane.policies import Policy
from kvplane.workers import Ticket

MODEL = "m"
TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"
BLOCK = 4
KEYRING = Keyring(b"m" * 32)
ACME, GLOBEX = Domain("acme", "default"), Domain("globex", "default")


class Fresh(Mirror):
    """A mirror that has just heard from everyone that they are idle."""

    @property
    def now_s(self) -> float:
        return 0.0

    def load(self, holder: HolderId) -> tuple[Load, float]:
        return Load(), 0.1

    def seen(self, holder: HolderId) -> Seen:
        return Seen(Load(), age_s=0.1, epoch=1, seq=1, blocks=0, gaps=0, reloads=0, rejected=0)


@dataclass(frozen=True)
class Router:
    """The parts a test looks at."""

    decider: Decider
    sight: Sight


def router(policy: Policy | None, replicas: Sequence[str] = ("a", "b", "c"), overlay: Overlay | None = None) -> Router:
    """A router that knows these replicas to be alive, and nothing of their caches."""
    holdings, roster = Holdings(), Roster()
    roster.update(replicas)
    mirror = Fresh(MemoryPages(), holdings, KEYRING.mac_key, lambda holder, served: None, time.monotonic)
    sight = Sight(holdings, mirror, overlay or Overlay("r1", time.monotonic), roster)
    return Router(Decider("r1", MODEL, BLOCK, KEYRING, sight, policy, "test"), sight)


@dataclass(frozen=True)
class Decided:
    """A decision, and the ticket that carries it out."""

    decision: Decision
    ticket: Ticket


def decide(made: Router, request: Asked) -> Decided:
    decision = made.decider.decide(request)
    return Decided(decision, made.decider.issue(decision, request, TRACEPARENT))


def words(*tokens: int) -> bytes:
    return np.asarray(tokens, dtype="<u4").tobytes()


def asked(prompt: bytes, domain: Domain = ACME, traceparent: str | None = None, wait_s: float = 5.0) -> Asked:
    return Asked(domain, prompt, max_tokens=8, traceparent=traceparent, deadline_s=time.time() + wait_s)


def hold(holdings: Holdings, replica: str, prompt: bytes, domain: Domain = ACME) -> None:
    """Let a replica hold every full block of a prompt."""
    key = domain_key(KEYRING.salt(domain), MODEL, "", BLOCK)
    prefix = Prefix(prompt, BLOCK, (Segment(key, 1 << 20),))
    names = np.asarray([prefix.name(depth) for depth in range(1, prefix.blocks + 1)], dtype="<u8")
    holdings.apply(HolderId(replica), [Changes(key.tag, Level.GPU, names.tobytes())])
