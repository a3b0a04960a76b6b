"""Policies as they are typed, and what is said of one that there is not."""

import pytest

from kvplane.controlplane.replay.contenders import DEFAULT, BadPolicy, contenders
from kvplane.policies import PolicySettings


def test_policies_keep_their_order_and_the_words_they_were_typed_with() -> None:
    found = contenders("round_robin, dynamo:prefill_load_scale=16:overlap_score_credit=2,dynamo")

    assert list(found) == ["round_robin", "dynamo:prefill_load_scale=16:overlap_score_credit=2", "dynamo"]
    assert [each.name for each in found.values()] == ["round_robin", "dynamo", "dynamo"]
    tuned = found["dynamo:prefill_load_scale=16:overlap_score_credit=2"].dynamo
    assert (tuned.prefill_load_scale, tuned.overlap_score_credit) == (16, 2)
    assert found["dynamo"] == PolicySettings(name="dynamo")


def test_a_knob_within_a_knob_has_a_dot() -> None:
    [settings] = contenders("estimated_ttft:rates.base_ms=3:rates.token_ms=0.5:weight=1").values()

    assert (settings.estimated_ttft.rates.base_ms, settings.estimated_ttft.rates.token_ms) == (3, 0.5)
    assert settings.estimated_ttft.weight == 1


def test_the_default_policies_are_there_and_begin_with_the_default_one() -> None:
    assert next(iter(contenders(DEFAULT))) == PolicySettings().name
    assert {"estimated_ttft", "dynamo", "lmetric", "least_loaded", "round_robin"} <= set(contenders(DEFAULT))


@pytest.mark.parametrize(
    "text, said",
    [
        ("dinamo", "there is no policy 'dinamo' (is it dynamo?); policies are round_robin, "),
        ("dynamo:scale=2", "dynamo has no knob 'scale'; its knobs are prefill_load_scale, "),
        ("dynamo:temprature=2", "dynamo has no knob 'temprature' (is it temperature?)"),
        ("round_robin:weight=2", "round_robin has no knobs; got weight=2"),
        ("dynamo:temperature", "wanted dynamo:knob=value; got dynamo:temperature"),
        ("dynamo:temperature=hot", "dynamo:temperature: input should be a valid number"),
        ("dynamo:host_cache_hit_weight=2", "dynamo:host_cache_hit_weight: input should be less than or equal to 1"),
        ("estimated_ttft:rates.base_ms=0", "estimated_ttft:rates.base_ms: input should be greater than 0; got 0"),
        ("estimated_ttft:rates=3", "estimated_ttft has no knob 'rates'"),
        ("dynamo:temperature=1:temperature=2", "wanted each knob once; got temperature twice"),
        ("dynamo,lmetric,dynamo", "wanted each policy once; got dynamo twice"),
        (" , ", "wanted a policy of round_robin, "),
    ],
)
def test_what_there_is_not_is_told_with_what_there_is(text: str, said: str) -> None:
    with pytest.raises(BadPolicy) as caught:
        contenders(text)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
