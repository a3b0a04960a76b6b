"""The procedure, on a deployment in memory: who asks what, when, and what a request without an answer costs."""

from collections import Counter
from itertools import groupby

import pytest

from kvplane.controlplane.audit.errors import AuditFailed
from kvplane.controlplane.audit.parties import CROSS, Level, pair_up
from kvplane.controlplane.audit.procedure import Plan, carry_out
from kvplane.tests.controlplane.audit.made_deployment import GLOBEX, PARTIES, RESEARCH, SUPPORT, MadeDeployment

PAIRS = pair_up(PARTIES, CROSS)
PLAN = Plan(samples=20, tokens=40, fraction=0.95, victim_requests=1, seed=7)


def test_every_level_has_as_many_hits_as_misses_in_no_order() -> None:
    samples = carry_out(PAIRS, PLAN, MadeDeployment().ask)

    assert Counter((sample.level, sample.hit) for sample in samples) == {
        (level, hit): 20 for level in Level for hit in (True, False)
    }
    assert 2 < max(len(list(run)) for _, run in groupby(sample.hit for sample in samples)) < 15
    assert 2 < max(len(list(run)) for _, run in groupby(sample.level for sample in samples)) < 15


def test_a_victim_asks_before_each_attacker_and_shares_a_prefix_with_it_only_in_a_hit() -> None:
    made = MadeDeployment()
    samples = carry_out(PAIRS, PLAN, made.ask)

    victims = {Level.ORGANISATIONS: GLOBEX, Level.WORKSPACES: RESEARCH, Level.WITHIN: SUPPORT}
    asked = iter(made.asked)
    for sample in samples:
        (victim, known), (attacker, prompt) = next(asked), next(asked)
        assert (victim, attacker) == (victims[sample.level].key, SUPPORT.key)
        shared = sum(a == b for a, b in zip(known.split(" ")[:38], prompt.split(" ")[:38], strict=True))
        assert shared == 38 if sample.hit else shared < 15


def test_a_hit_finds_the_cache_within_a_tenant_and_nowhere_else() -> None:
    samples = carry_out(PAIRS, PLAN, MadeDeployment().ask)

    cached = {(sample.level is Level.WITHIN, sample.hit): sample.attacker.cached_tokens for sample in samples}
    assert cached == {(True, True): 32, (True, False): 0, (False, True): 0, (False, False): 0}


def test_a_victim_may_ask_more_than_once_and_only_then_comes_the_pause() -> None:
    made, pauses = MadeDeployment(), list[int]()
    plan = Plan(samples=1, tokens=40, fraction=0.95, victim_requests=5, seed=7)
    carry_out(pair_up([GLOBEX], [Level.WITHIN]), plan, made.ask, pause=lambda: pauses.append(len(made.asked)))

    assert pauses == [5, 11]
    assert len({prompt for _, prompt in made.asked[:5]}) == 1
    assert len(made.asked) == 12


def test_a_seed_gives_one_run() -> None:
    runs = [MadeDeployment() for _ in range(3)]
    for made, seed in zip(runs, (7, 7, 8), strict=True):
        carry_out(PAIRS, Plan(5, 40, 0.95, 1, seed), made.ask)

    assert runs[0].asked == runs[1].asked != runs[2].asked


def test_progress_is_told_to_the_end() -> None:
    heard: list[tuple[int, int]] = []
    carry_out(pair_up([GLOBEX], [Level.WITHIN]), PLAN, MadeDeployment().ask, told=lambda *it: heard.append(it))

    assert heard == [(done, 40) for done in range(1, 41)]


def test_a_procedure_that_breaks_off_begins_anew_with_fresh_prompts() -> None:
    made = MadeDeployment()
    made.refuse = {1, 2}  # the first attacker's, then the second try's victim
    samples = carry_out(PAIRS, PLAN, made.ask)

    assert len(samples) == 120
    assert len(made.asked) == 243
    assert len({made.asked[victims][1] for victims in (0, 2, 3)}) == 3


def test_three_times_without_an_answer_is_the_end_and_says_who_asked() -> None:
    made = MadeDeployment()
    made.refuse = {0, 1, 2}

    with pytest.raises(AuditFailed, match=r"^(acme|globex)/\w+: HTTP 503: no replica is ready, 3 times"):
        carry_out(PAIRS, PLAN, made.ask)
    assert len(made.asked) == 3
