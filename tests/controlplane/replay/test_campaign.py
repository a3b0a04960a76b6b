"""Several policies over the same requests: paired, compared with the first, with what no router can beat."""

import pytest

from kvplane.controlplane.replay.campaign import METRICS, campaign, shifted
from kvplane.controlplane.replay.fleet import FleetSettings
from kvplane.controlplane.replay.references import infinite_hit_rate, pooled_hit_rate
from kvplane.controlplane.replay.replayer import replay
from kvplane.controlplane.replay.report import to_json
from kvplane.controlplane.replay.summary import Slo, summarise
from kvplane.controlplane.replay.timing import timing_named
from kvplane.controlplane.replay.trace import BadTrace, scaled
from kvplane.policies import PolicySettings
from kvplane.tests.controlplane.replay.made_trace import conversations

TRACE = conversations(40, apart_ms=20.0)
FLEET = FleetSettings(timing_named("dynamo"), replicas=2, blocks=300)
POLICIES = {"ours": PolicySettings(), "blind": PolicySettings(name="round_robin")}


def test_a_run_is_the_one_that_the_policy_alone_has() -> None:
    replayed = campaign(TRACE, POLICIES, FLEET, seed=5)

    assert list(replayed.runs) == ["ours", "blind", "oracle"]
    alone = summarise(replay(TRACE, POLICIES["blind"], FLEET, 5))
    assert replayed.report.policies["blind"] == [alone]
    assert [run.policy for run in replayed.runs["blind"]] == ["blind"]


def test_the_first_is_compared_with_each_other_and_with_the_oracle() -> None:
    comparisons = campaign(TRACE, POLICIES, FLEET).report.comparisons

    assert [(each.ours, each.theirs, each.metric) for each in comparisons] == [
        ("ours", theirs, metric) for theirs in ("blind", "oracle") for metric in METRICS
    ]


def test_references_stand_beside_the_policies_unless_they_are_not_wanted() -> None:
    told = to_json(campaign(TRACE, POLICIES, FLEET).report)["references"]
    without = campaign(TRACE, POLICIES, FLEET, references=False)

    assert isinstance(told, dict)
    assert told["infinite"] == {"hit_rate": infinite_hit_rate(TRACE)}
    assert told["pooled"] == {"hit_rate": pooled_hit_rate(TRACE, 600)}
    assert told["oracle"]["requests"] == 40
    assert to_json(without.report)["references"] == {}
    assert {each.theirs for each in without.report.comparisons} == {"blind"}


def test_a_pool_has_all_blocks_of_all_tiers() -> None:
    small = FleetSettings(timing_named("dynamo"), replicas=1, blocks=80, cpu_blocks=40, disk_blocks=10)
    report = campaign(TRACE, {"ours": PolicySettings()}, small).report

    assert report.pooled_hit_rate == pooled_hit_rate(TRACE, 130) > pooled_hit_rate(TRACE, 80)


def test_each_run_begins_later_by_a_tenth_of_the_trace_in_all() -> None:
    # 40 requests, two runs: a tenth is 4, and the second leaves out 2 of them.
    starts = shifted(TRACE, 2)

    assert [len(each.requests) for each in starts] == [40, 38]
    assert starts[1].requests[0].at_ms == 0.0
    assert starts[1].requests[0].ranges == TRACE.requests[2].ranges
    assert [len(each.requests) for each in shifted(TRACE, 1)] == [40]


def test_runs_differ_in_seed_and_start_and_are_summed_up_one_by_one() -> None:
    replayed = campaign(TRACE, POLICIES, FLEET, seed=5, runs=2)

    assert [run.seed for run in replayed.runs["blind"]] == [5, 6]
    assert [each.requests for each in replayed.report.policies["blind"]] == [40, 38]
    first, second = replayed.report.policies["blind"]
    assert first.ttft_mean_ms != second.ttft_mean_ms
    assert len(replayed.report.comparisons) == 6


def test_what_is_good_enough_is_as_it_was_said() -> None:
    never = campaign(TRACE, {"ours": PolicySettings()}, FLEET, slo=Slo(0.1, 0.1)).report.policies["ours"][0]

    assert never.slo_attainment == 0.0


def test_all_replays_are_told_of_to_their_end() -> None:
    told: list[tuple[str, int, int]] = []
    campaign(TRACE, POLICIES, FLEET, runs=2, told=lambda *each: told.append(each))

    for label in ("ours", "blind", "oracle"):
        assert [done for name, done, _ in told if name == label] == list(range(1, 79))
    assert {total for _, _, total in told} == {78}


def test_of_too_few_requests_nothing_is_concluded() -> None:
    report = campaign(scaled(TRACE, requests=9), POLICIES, FLEET).report

    assert report.comparisons == ()
    assert set(report.policies) == {"ours", "blind"}


def test_more_runs_than_requests_cannot_be() -> None:
    with pytest.raises(BadTrace, match="from request 9 on"):
        campaign(scaled(TRACE, requests=9), POLICIES, FLEET, runs=10)
