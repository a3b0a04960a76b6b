"""Who promises what it does not have is believed less, in proportion; no honest replica ever is."""

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import numpy as np
import pytest

from kvplane.directory import HolderId, holder_id
from kvplane.directory.trust import Trust
from kvplane.policies import Candidate, Choice, Outcome, PolicySettings, ReplicaId, RoutedRequest, build_policy

ONE, TWO = holder_id("one"), holder_id("two")
Losses = Callable[[Random], Iterator[float]]  # the share of each promise that is lost


def told(*outcomes: tuple[int, int], times: int = 1) -> Trust:
    """A trust that was told of claimed and reported tokens."""
    trust = Trust()
    for claimed, reported in outcomes * times:
        trust.observe(ONE, claimed, reported)
    return trust


def test_whoever_keeps_its_promises_is_trusted_wholly_and_costs_nothing() -> None:
    trust = told((1000, 1000), times=100)

    assert trust.factor(ONE) == 1.0
    assert trust.factors((ONE, TWO)) is None


def test_a_liar_is_believed_nothing_after_twenty_promises() -> None:
    factors = [told((1000, 0), times=times).factor(ONE) for times in (19, 20, 50)]

    assert factors == [1.0, 0.0, 0.0]  # 19 * 0.7 is less than 13.5


def test_a_liar_that_was_honest_for_long_is_found_out_as_soon() -> None:
    assert told(*[(1000, 1000)] * 5000, *[(1000, 0)] * 20).factor(ONE) < 0.2


@pytest.mark.parametrize("kept, worth", [(0.25, 0.0), (0.49, 0.0), (0.51, 0.51), (0.6, 0.6)])
def test_who_claims_too_much_is_worth_what_it_has_and_nothing_if_that_is_less_than_half(
    kept: float, worth: float
) -> None:
    assert told((1000, int(1000 * kept)), times=150).factor(ONE) == pytest.approx(worth, abs=0.001)


def test_claims_that_are_seldom_kept_are_worth_nothing_however_often_that_is() -> None:
    random = Random(3)
    trust, factors = Trust(), []
    for _ in range(1000):
        trust.observe(ONE, 1000, random.choice([0, 0, 1000]))
        factors.append(trust.factor(ONE))

    assert max(factors[50:]) == 0.0


def test_hidden_hits_earn_nothing_and_cost_nothing() -> None:
    hiding = told((0, 1000), (100, 1000), times=1000)
    lying_too = told(*[(1000, 9000)] * 1000, *[(1000, 0)] * 20)

    assert hiding.factor(ONE) == 1.0
    assert lying_too.factor(ONE) == told((1000, 0), times=20).factor(ONE)


def test_truth_is_believed_again_slowly() -> None:
    lied = [(1000, 0)] * 50  # the sum stands at its most, 30; each promise kept takes 0.3 off
    factors = [told(*lied, *[(1000, 1000)] * kept).factor(ONE) for kept in (0, 55, 57, 99, 101)]

    assert factors[:2] == [0.0, 0.0]
    assert factors[2:4] == pytest.approx([0.51, 0.93])  # half is kept from the 7th on, then 0.01 is regained with each
    assert factors[4] == 1.0


def test_a_lie_on_the_way_back_costs_at_once_what_was_regained() -> None:
    assert told(*[(1000, 0)] * 50, *[(1000, 1000)] * 50, *[(1000, 0)] * 10).factor(ONE) < 0.5


def test_small_promises_weigh_less() -> None:
    factors = [told((16, 0), times=times).factor(ONE) for times in (77, 78)]

    assert factors[0] == 1.0  # each weighs a quarter: 77 * 0.25 * 0.7 is less than 13.5
    assert factors[1] < 0.3


def suspected_at(*lost: float) -> int | None:
    """After how many promises the first of several holders is suspected, each of which loses so much of all its own."""
    trust, holders = Trust(), [holder_id(f"r-{number}") for number in range(len(lost))]
    for number in range(200):
        for holder, part in reversed(list(zip(holders, lost, strict=True))):
            trust.observe(holder, 1000, round(1000 * (1 - part)))
        if trust.factor(holders[0]) < 1.0:
            return number + 1
    return None


def test_what_the_others_lose_is_allowed_too() -> None:
    assert suspected_at(0.7, 0.0, 0.0, 0.0) == 34  # 0.4 too much with each
    assert suspected_at(0.7, 0.2, 0.2, 0.2) == 59  # 0.2, and 1.8 in all until it is known what the others lose
    assert suspected_at(0.7, 0.7, 0.7, 0.7) is None


def test_who_loses_much_more_than_the_others_is_suspected_however_badly_they_do() -> None:
    assert suspected_at(1.0, 0.4, 0.4, 0.4) == 34  # 0.3 with each, and 3.5 until it is known what the others lose


def test_one_other_that_lies_too_and_others_that_are_too_few_excuse_nothing() -> None:
    assert suspected_at(1.0, 1.0, 0.0, 0.0) == 20
    assert suspected_at(1.0, 1.0, 1.0) == 20


def test_a_nonsensical_report_is_a_lost_promise_and_no_more() -> None:
    assert told((1000, -5), times=20).factor(ONE) == told((1000, 0), times=20).factor(ONE)


def test_factors_are_in_the_order_asked_for_and_up_to_date() -> None:
    trust, holders = told((1000, 600), times=150), (TWO, ONE)
    before = trust.factors(holders)
    trust.observe(ONE, 1000, 0)
    after, turned = trust.factors(holders), trust.factors(holders[::-1])
    trust.forget(ONE)

    assert before == pytest.approx(np.array([1.0, 0.6]), abs=1e-4)
    assert after == pytest.approx(np.array([1.0, 0.54]), abs=1e-4)  # 0.9 * 0.6
    assert turned == pytest.approx(np.array([0.54, 1.0]), abs=1e-4)
    assert told((1000, 0), times=30).factors((TWO,)) is None
    assert (trust.factor(ONE), trust.factors(holders)) == (1.0, None)


def test_of_ever_new_holders_the_latest_heard_of_are_remembered() -> None:
    trust, others = told((1000, 0), times=20), [holder_id(f"r-{number}") for number in range(2 * 4095)]
    for other in others[:4095]:
        trust.observe(other, 1000, 1000)
    trust.observe(ONE, 1000, 0)
    for other in others[4095:]:
        trust.observe(other, 1000, 1000)
    remembered = trust.factor(ONE)
    trust.observe(TWO, 1000, 1000)

    assert remembered < 0.2
    assert trust.factor(ONE) == 1.0


def evictions(random: Random) -> Iterator[float]:
    """One promise in ten is lost whole."""
    while True:
        yield float(random.random() < 0.1)


def erosion(random: Random) -> Iterator[float]:
    """Each loses something of its end: a tenth on average, and up to all."""
    while True:
        yield random.betavariate(0.5, 4.5)


def churn(random: Random) -> Iterator[float]:
    """Pressure comes and goes: at its worst a quarter is lost for fifty prompts, and a tenth over all."""
    while True:
        for _ in range(50):
            yield random.random() * 0.5
        for _ in range(100):
            yield random.random() * 0.05


def restarts(random: Random) -> Iterator[float]:
    """Every thousandth prompt or so its cache is emptied with ten under way, on top of evictions of one in twenty."""
    while True:
        for _ in range(random.randint(500, 1500)):
            yield float(random.random() < 0.05)
        for _ in range(10):
            yield 1.0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("losses", [evictions, erosion, churn, restarts])
def test_no_honest_replica_is_ever_suspected(losses: Losses, seed: int) -> None:
    random, trust, suspected = Random(seed), Trust(), 0
    lost = losses(random)
    for _ in range(100_000):
        claimed = int(random.lognormvariate(7, 1.5))
        trust.observe(ONE, claimed, int(claimed * (1 - next(lost))))
        suspected += trust.factor(ONE) < 1.0

    assert suspected == 0


PREFIX, SUFFIX, TOKENS_PER_MS = 4000, 200, 20
BEGUN, CAUGHT, PROMPTS = 600, 800, 2000


@dataclass(order=True)
class UnderWay:
    """A prompt that is being served, until its outcome is told."""

    ends_ms: float
    number: int
    claimed: int
    outcome: Outcome = field(compare=False)
    choice: Choice = field(compare=False)


@dataclass
class Replica:
    """Serves one prompt after another, and keeps the prefixes of the latest ten conversations unless it lies."""

    name: HolderId
    lies: bool = False
    hides: bool = False
    free_at_ms: float = 0.0
    holds: deque[int] = field(default_factory=lambda: deque(maxlen=10))

    def claim(self, conversation: int) -> int:
        return PREFIX * (not self.hides and (self.lies or conversation in self.holds))

    def serve(self, conversation: int, now_ms: float) -> Outcome:
        cached = PREFIX * (conversation in self.holds and not self.lies)
        queue_ms, prefill_ms = max(0.0, self.free_at_ms - now_ms), (PREFIX + SUFFIX - cached) / TOKENS_PER_MS
        self.free_at_ms = now_ms + queue_ms + prefill_ms
        if not cached:
            self.holds.append(conversation)
        replica, total_ms = ReplicaId(self.name), queue_ms + prefill_ms
        return Outcome(replica, PREFIX + SUFFIX, cached, 1, queue_ms, prefill_ms, total_ms)


def share_of_the_first(trust: Trust, seed: int, *, lies: bool = False, hides: bool = False) -> float:
    """How many of the prompts behind `CAUGHT` one of eight replicas gets that begins to lie at `BEGUN`, or hides.

    The real policy; three prompts in four find nothing in any cache, and a fifth of the fleet would do for them.
    """
    random, policy = Random(f"{seed} prompts"), build_policy(PolicySettings(), Random(f"{seed} policy"))
    fleet = {ReplicaId(name): Replica(holder_id(name)) for name in (f"r-{number}" for number in range(8))}
    first, *_ = fleet.values()
    first.hides = hides
    under_way: list[UnderWay] = []
    sent: list[Replica] = []
    for number in range(PROMPTS):
        now_ms, conversation = 100.0 * number, random.randrange(300)
        first.lies = lies and number >= BEGUN
        while under_way and under_way[0].ends_ms <= now_ms:
            ended = heapq.heappop(under_way)
            policy.learn(ended.choice, ended.outcome)
            trust.observe(HolderId(ended.outcome.replica), ended.claimed, ended.outcome.cached_tokens)
        request = RoutedRequest(PREFIX + SUFFIX, 20, 16, at_s=now_ms / 1e3)
        choice = policy.choose(request, [shown(each, conversation, now_ms, trust) for each in fleet.values()])
        chosen = fleet[choice.replica]
        claimed, outcome = chosen.claim(conversation), chosen.serve(conversation, now_ms)
        heapq.heappush(under_way, UnderWay(chosen.free_at_ms, number, claimed, outcome, choice))
        sent.append(chosen)
    return sent[CAUGHT:].count(first) / (PROMPTS - CAUGHT)


def shown(replica: Replica, conversation: int, now_ms: float, trust: Trust) -> Candidate:
    held = int(replica.claim(conversation) * trust.factor(replica.name))
    waiting = int(max(0.0, replica.free_at_ms - now_ms) * TOKENS_PER_MS)
    return Candidate(ReplicaId(replica.name), held, held, held, waiting, ongoing=waiting > 0)


class Credulous(Trust):
    """Believes everyone."""

    def observe(self, holder: HolderId, claimed: int, reported: int) -> None:
        return


@pytest.mark.parametrize("seed", range(3))
def test_a_liar_has_no_more_than_its_share_of_traffic_two_hundred_prompts_on(seed: int) -> None:
    believed = share_of_the_first(Credulous(), seed, lies=True)
    doubted = share_of_the_first(Trust(), seed, lies=True)

    assert believed > 3.0 / 8
    assert doubted <= 1.5 / 8


@pytest.mark.parametrize("hides", [False, True])
def test_where_nobody_lies_no_prompt_goes_elsewhere_for_want_of_trust(hides: bool) -> None:
    assert share_of_the_first(Trust(), 0, hides=hides) == share_of_the_first(Credulous(), 0, hides=hides)
