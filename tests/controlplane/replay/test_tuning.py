"""The best setting on the first third, judged on the rest."""

from dataclasses import replace

import msgspec
import pytest
import yaml

from kvplane.controlplane.config import Settings
from kvplane.controlplane.replay.compare import Verdict
from kvplane.controlplane.replay.fleet import FleetSettings
from kvplane.controlplane.replay.replayer import replay
from kvplane.controlplane.replay.summary import summarise
from kvplane.controlplane.replay.timing import timing_named
from kvplane.controlplane.replay.trace import BadTrace, scaled
from kvplane.controlplane.replay.tuned import as_yaml, tuned_in_words, tuned_table, tuned_to_json
from kvplane.controlplane.replay.tuning import settings_worth_trying, tune
from kvplane.policies import PolicySettings
from kvplane.tests.controlplane.replay.made_trace import conversations

TRACE = conversations(90, apart_ms=15.0)
FLEET = FleetSettings(timing_named("dynamo"), replicas=2, blocks=300, token_budget=512)


def test_the_default_is_tried_once_whether_or_not_it_is_among_the_variants() -> None:
    weights = [each.estimated_ttft.weight for each in settings_worth_trying("estimated_ttft").values()]

    assert sorted(weights) == [0.5, 1, 1.5, 2, 3, 4, 6, 8]
    assert list(settings_worth_trying("round_robin")) == ["round_robin (default)"]
    for name in ("estimated_ttft", "smg"):
        assert next(iter(settings_worth_trying(name).values())) == PolicySettings(name=name)


def test_settings_are_tried_on_the_first_third_the_best_first_and_judged_on_the_rest() -> None:
    tuned = tune(TRACE, "dynamo", FLEET)

    assert {each.label for each in tuned.tried} == set(settings_worth_trying("dynamo"))
    means = [each.summary.ttft_mean_ms for each in tuned.tried]
    assert means == sorted(means)
    assert means[0] < means[-1]
    assert tuned.best.summary == summarise(replay(scaled(TRACE, requests=30), tuned.best.settings, FLEET))
    rest = scaled(TRACE, start=30)
    assert summarise(tuned.run) == summarise(replay(rest, tuned.best.settings, FLEET))
    assert summarise(tuned.default) == summarise(replay(rest, PolicySettings(name="dynamo"), FLEET))
    assert (tuned.judged.ours, tuned.judged.theirs) == (tuned.best.label, "dynamo (default)")


def test_of_a_rate_the_highest_is_the_best() -> None:
    rates = [each.summary.hit_rate for each in tune(TRACE, "dynamo", FLEET, metric="hit_rate").tried]

    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[-1]


def test_several_processes_find_the_same() -> None:
    alone, together = tune(TRACE, "consistent_hash", FLEET), tune(TRACE, "consistent_hash", FLEET, jobs=2)

    assert together.tried == alone.tried
    assert together.judged == alone.judged


def test_what_is_under_way_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    tune(TRACE, "estimated_ttft", FLEET, told=lambda *each: told.append(each))

    assert [done for what, done, _ in told if what == "trying"] == list(range(9))
    assert {total for what, _, total in told if what == "trying"} == {8}
    assert told[-1] == ("judging", told[-1][2], told[-1][2])


def test_a_policy_without_knobs_has_nothing_to_tune() -> None:
    tuned = tune(TRACE, "round_robin", FLEET)

    assert tuned.is_default
    assert tuned_in_words(tuned) == ["the default is the best of what was tried: keep it"]


def test_too_short_a_trace_cannot_be_split() -> None:
    with pytest.raises(BadTrace, match="at least 30 requests to tune on, got 29"):
        tune(scaled(TRACE, requests=29), "round_robin", FLEET)


@pytest.mark.parametrize(
    "verdict, said, written",
    [
        ("better", "than the default on requests that it was not chosen for: set it", True),
        ("no difference shown", "the default will do", True),
        ("worse", "keep the default", False),
    ],
)
def test_words_follow_the_verdict(verdict: Verdict, said: str, written: bool) -> None:
    tuned = tune(TRACE, "estimated_ttft", FLEET)
    judged = msgspec.structs.replace(tuned.judged, verdict=verdict)
    words = tuned_in_words(replace(tuned, default=replace(tuned.run), judged=judged))

    assert words[0].startswith("on the rest of the trace, ")
    assert words[1].endswith(said)
    assert words[2:] == (["in a configuration file it is", as_yaml(tuned.best.settings)] if written else [])


def test_the_lines_for_a_configuration_file_set_the_policy_so() -> None:
    for name in ("dynamo", "estimated_ttft", "smg", "round_robin"):
        for settings in settings_worth_trying(name).values():
            assert Settings.model_validate(yaml.safe_load(as_yaml(settings))).routing == settings


def test_json_has_every_setting_and_what_it_comes_to() -> None:
    tuned = tune(TRACE, "dynamo", FLEET)
    told = tuned_to_json(tuned)

    assert isinstance(told["settings"], list)
    assert [each["setting"] for each in told["settings"]] == [each.label for each in tuned.tried]
    assert told["settings"][0]["ttft_mean_ms"] == tuned.best.summary.ttft_mean_ms
    assert isinstance(told["best"], dict)
    assert told["best"]["routing"]["name"] == "dynamo"
    assert told["best"]["ttft_mean_ms"] == summarise(tuned.run).ttft_mean_ms
    assert isinstance(told["judged"], dict)
    assert told["judged"]["ratio"] == tuned.judged.ratio
    assert tuned_table(tuned, "made").row_count == len(tuned.tried)
