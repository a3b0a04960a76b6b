"""Whoever claims what it does not have gets no more than its share of requests; of the honest nobody is suspected."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

import msgspec
import numpy as np
import pytest

from kvplane.controlplane import sight
from kvplane.controlplane.replay import replayer
from kvplane.controlplane.replay.fleet import FleetSettings
from kvplane.controlplane.replay.front import MODEL, WORKSPACE
from kvplane.controlplane.replay.timing import timing_named
from kvplane.controlplane.replay.trace import Ranges, Trace, TraceRequest
from kvplane.controlplane.replay.words import words_of
from kvplane.directory import (
    Changes,
    Domain,
    HolderId,
    Keyring,
    Level,
    MemoryPages,
    Prefix,
    Sealed,
    Segment,
    Trust,
    domain_key,
    holder_id,
    seal,
)
from kvplane.directory.pages import Appended
from kvplane.directory.wire import unseal
from kvplane.policies import PolicySettings
from kvplane.tests.controlplane.replay.made_trace import BLOCK

FLEET = FleetSettings(timing_named("dynamo"), replicas=8, lag_s=0.02, max_tokens=64)
FAIR = 1 / 8
LIAR = HolderId("replica-0003")
KEYRING = Keyring(b"replay".ljust(32, b"."))
PART = 20_000  # names told at once


def mixed(apart_ms: float, seed: int, count: int = 1200) -> Trace:
    """Three in ten prompts are like no other, three and a half ask about one of twenty documents, the others go on."""
    draw, at_ms, turns = Random(seed), 0.0, [0] * 60
    requests = []
    for number in range(count):
        at_ms += draw.expovariate(1 / apart_ms)
        own = 1_000_000 + 1000 * number
        if draw.random() < 0.3:
            ranges: Ranges = ((own, draw.randint(20, 120)),)
        elif draw.random() < 0.5:
            ranges = ((1000 * draw.randrange(20), 60), (own, draw.randint(2, 20)))
        else:
            session = draw.randrange(60)
            turns[session] = turns[session] % 250 + draw.randint(4, 12)
            ranges = ((100_000 + 1000 * session, turns[session]),)
        tokens = BLOCK * sum(blocks for _, blocks in ranges) - 3
        requests.append(TraceRequest(at_ms, tokens, draw.randint(8, 60), ranges, "", "acme"))
    return Trace("mixed", BLOCK, requests)


def everything(trace: Trace) -> list[Changes]:
    """The claim to hold whatever will be asked for."""
    key = domain_key(KEYRING.salt(Domain("acme", WORKSPACE)), MODEL, "", BLOCK)
    names: set[int] = set()
    for request in trace.requests:
        words = words_of(request.block_ids, request.prompt_tokens, BLOCK)
        prefix = Prefix(words, BLOCK, (Segment(key, 1 << 40),))
        names.update(prefix.start.names(prefix.blocks))
    packed = np.array(sorted(names), "<u8")
    return [Changes(key.tag, Level.GPU, packed[at : at + PART].tobytes()) for at in range(0, len(packed), PART)]


class LyingPages(MemoryPages):
    """In which one replica, under its own signature, claims everything in place of what it holds, with room for it."""

    claims: ClassVar[list[Changes]] = []

    def __init__(self) -> None:
        super().__init__()
        self._told = 0  # of the claims, on the page as it stands

    async def append(self, batch: Sealed) -> Appended:
        return await super().append(self._lie(batch))

    async def checkpoint(self, checkpoint: Sealed) -> None:
        if checkpoint.holder == LIAR:
            self._told = 0
        await super().checkpoint(self._lie(checkpoint))

    def _lie(self, sealed: Sealed) -> Sealed:
        if sealed.holder != LIAR or not self.claims:
            return sealed
        mac_key = KEYRING.mac_key(LIAR, sealed.epoch)
        message = unseal(sealed, mac_key)
        part, self._told = tuple(self.claims[self._told : self._told + 1]), self._told + 1
        load = msgspec.structs.replace(message.load, total_blocks=0)
        return seal(msgspec.structs.replace(message, changes=part, digest=b"", load=load), mac_key)


class Credulous(Trust):
    """Believes everyone."""

    def observe(self, holder: HolderId, claimed: int, reported: int) -> None:
        return


def sent_to_the_liar(monkeypatch: pytest.MonkeyPatch, apart_ms: float, trust: type[Trust], lies: bool) -> list[bool]:
    """Of each request of a replay, whether it went there."""
    trace = mixed(apart_ms, seed=1)
    chosen: dict[int, str] = {}
    monkeypatch.setattr(LyingPages, "claims", everything(trace) if lies else [])
    monkeypatch.setattr(replayer, "MemoryPages", LyingPages)
    monkeypatch.setattr(sight, "Trust", trust)
    replayer.replay(
        trace, PolicySettings(), FLEET, decided=lambda number, routed: chosen.update({number: routed.ticket.ranks[0]})
    )
    return [chosen[number] == LIAR for number in range(len(chosen))]


@pytest.mark.parametrize("apart_ms", [25.0, 150.0])
def test_a_replica_that_claims_everything_gets_at_most_half_more_than_its_share_two_hundred_requests_on(
    monkeypatch: pytest.MonkeyPatch, apart_ms: float
) -> None:
    sent = sent_to_the_liar(monkeypatch, apart_ms, Trust, lies=True)

    assert sum(sent[:100]) > 100 * FAIR  # it does draw requests to itself at first
    for until in (400, 800, 1200):
        assert sum(sent[200:until]) <= 1.5 * FAIR * (until - 200)


def test_if_it_were_believed_it_would_get_several_times_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = sent_to_the_liar(monkeypatch, 150.0, Credulous, lies=True)

    assert sum(sent[200:]) > 3 * FAIR * 1000


def test_the_same_replica_gets_its_share_where_it_tells_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = sent_to_the_liar(monkeypatch, 150.0, Trust, lies=False)

    assert 0.75 * FAIR * 1000 < sum(sent[200:]) < 1.25 * FAIR * 1000


@dataclass
class Cache:
    """Prompts queue in front of it; what must make way is the end of the prefix that was not used for longest."""

    blocks: int
    waiting: deque[tuple[int, int, int]] = field(default_factory=deque)  # prefix, its blocks, those that were promised
    held: OrderedDict[int, int] = field(default_factory=OrderedDict)

    def serve(self) -> tuple[int, int]:
        """The blocks that were promised of the next prompt, and those that are there by now."""
        prefix, blocks, promised = self.waiting.popleft()
        had = self.held.pop(prefix, 0)
        self.held[prefix] = max(had, blocks)
        while (over := sum(self.held.values()) - self.blocks) > 0:
            oldest, size = next(iter(self.held.items()))
            self.held[oldest] = max(0, size - over)
            if not self.held[oldest]:
                del self.held[oldest]
        return promised, min(had, blocks)


def honest(caches: dict[HolderId, Cache], outcomes: int, seed: int) -> Iterator[tuple[HolderId, int, int]]:
    """Who promised how many tokens and had how many: the fullest cache is sent a prompt that it has, in bursts.

    For four hundred prompts two come for each that is served; then the caches catch up.
    """
    draw, told, number = Random(seed), 0, 0
    while told < outcomes:
        number += 1
        prefix = int(300 * draw.random() ** 2)
        blocks = 20 + prefix % 60
        cost = {name: 0.3 * blocks * len(each.waiting) - each.held.get(prefix, 0) for name, each in caches.items()}
        chosen = min(cost, key=lambda name: (cost[name], draw.random()))
        caches[chosen].waiting.append((prefix, blocks, min(blocks, caches[chosen].held.get(prefix, 0))))
        calm = number // 400 % 2
        for _ in range(2 if calm else number % 2):
            name, longest = max(caches.items(), key=lambda item: len(item[1].waiting))
            if longest.waiting:
                promised, had = longest.serve()
                told += promised > 0
                yield name, BLOCK * promised, BLOCK * had


@pytest.mark.parametrize("blocks, lost", [(1000, 0.13), (500, 0.33)])
def test_of_honest_replicas_that_evict_between_decision_and_arrival_nobody_is_ever_suspected(
    blocks: int, lost: float
) -> None:
    trust, caches = Trust(), {holder_id(f"r-{number}"): Cache(blocks) for number in range(8)}
    promised = kept = 0
    for holder, claimed, reported in honest(caches, 100_000, seed=1):
        trust.observe(holder, claimed, reported)
        promised, kept = promised + claimed, kept + reported * (claimed > 0)

        assert trust.factor(holder) == 1.0
    assert 1 - kept / promised == pytest.approx(lost, abs=0.01)
