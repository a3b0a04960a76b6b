"""A deployment of two replicas in memory: tenants, a cache of letters by salt, times that are drawn, decisions."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kvplane.controlplane.audit.errors import NoAnswer
from kvplane.controlplane.audit.parties import Party
from kvplane.controlplane.audit.reply import Ask, Reply
from kvplane.controlplane.decisions import DecisionRow
from kvplane.policies import Candidate, ReplicaId

SUPPORT = Party("acme/support", "sk-acme-support-0001")
RESEARCH = Party("acme/research", "sk-acme-research-001")
GLOBEX = Party("globex/default", "sk-globex-default-01")
PARTIES = (SUPPORT, RESEARCH, GLOBEX)

_BLOCK = 8  # letters
_REPLICAS = ("r1", "r2")


class MadeDeployment:
    """A letter that is cached saves 1 ms of 100; `scope` says who shares: "tenant", "organisation" or "all"."""

    def __init__(self, scope: str = "tenant", noise_ms: float = 5.0, seed: int = 1) -> None:
        self.asked: list[tuple[str, str]] = []  # key, prompt
        self.rows: list[DecisionRow] = []
        self.refuse: set[int] = set()  # numbers of the requests that get no answer
        self._scope = scope
        self._noise_ms = noise_ms
        self._chance = random.Random(seed)
        self._holders: dict[tuple[str, str], str] = {}  # salt, prefix -> replica

    def ask(self, key: str, prompt: str) -> Reply:
        number = len(self.asked)
        self.asked.append((key, prompt))
        if number in self.refuse:
            raise NoAnswer("HTTP 503: no replica is ready")
        letters, salt = prompt.split(" "), self._salt(key)
        prefixes = [(salt, " ".join(letters[:end])) for end in range(_BLOCK, len(letters) + 1, _BLOCK)]
        held = [prefix for prefix in prefixes if prefix in self._holders]
        replica = self._holders[held[-1]] if held else self._chance.choice(_REPLICAS)
        self._holders |= dict.fromkeys(prefixes, replica)
        cached = _BLOCK * len(held)
        ttft_ms = 100.0 - cached + self._chance.gauss(0, self._noise_ms)
        self.rows.append(row(f"{number:016x}", replica, ttft_ms))
        return Reply(f"{number:016x}", ttft_ms, len(letters), cached)

    @contextmanager
    def asking(self, url: str, key: str) -> Iterator[Ask]:
        yield self.ask

    def _salt(self, key: str) -> str:
        name = next(party.name for party in PARTIES if party.key == key)
        return {"tenant": name, "organisation": name.split("/")[0], "all": ""}[self._scope]


def row(id: str, replica: str | None, ttft_ms: float | None, *, waiting: int = 0, ongoing: int = 0) -> DecisionRow:
    """A decision and, if it has a time, its outcome; the replica that was not chosen has nine requests."""
    candidates = tuple(
        Candidate(ReplicaId(each), waiting_sequences=waiting, ongoing=ongoing)
        if each == replica
        else Candidate(ReplicaId(each), ongoing=9)
        for each in _REPLICAS
    )
    return DecisionRow(
        id=id,
        at_ns=time.time_ns(),
        took_us=1.0,
        tenant="acme/support",
        model="m",
        router="router-1",
        policy="made",
        reason="made",
        chosen=replica,
        propensity=1.0,
        prompt_tokens=100,
        max_tokens=1,
        block_tokens=16,
        predicted_cached_tokens=0,
        predicted_ttft_ms=None,
        directory_age_ms=0.0,
        candidates=candidates,
        scores={},
        basis={},
        trace_id="ab" * 16,
        span_id="cd" * 8,
        parent_span_id=None,
        served_by=None,
        finish=None if ttft_ms is None else "length",
        actual_cached_tokens=None,
        actual_ttft_ms=ttft_ms,
        queue_ms=None,
        prefill_ms=None,
        total_ms=None,
        output_tokens=None,
    )
