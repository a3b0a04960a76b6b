"""What a step takes, by the presets and by fit."""

from pathlib import Path

import numpy as np
import pytest

from kvplane.controlplane.replay.fit import Fitted, timing_from_file
from kvplane.controlplane.replay.timing import TIMINGS, BadTiming, Slowed, Step, Timing, timing_named

FITTED = Fitted(8.0, 0.01, 1e-7, 2e-7, 6.0, 0.05, 1e-5)
KINDS = {**TIMINGS, "slowed": Slowed(timing_named("h100_8b"), 3.0), "fitted": FITTED}


@pytest.fixture(params=sorted(KINDS))
def timing(request: pytest.FixtureRequest) -> Timing:
    return KINDS[request.param]


def test_many_steps_at_once_take_what_each_takes_alone(timing: Timing) -> None:
    context = np.array([1_000.0, 1_004.0, 90_000.0, 2_000_000.0])

    at_once = timing.decode_ms(4, context, 1_048_576)

    alone = [timing.step_ms(Step(0, 0, 0, 4, int(tokens), 1_048_576)) for tokens in context]
    assert at_once.tolist() == pytest.approx(alone, rel=1e-12)


def test_more_work_takes_no_less_time(timing: Timing) -> None:
    least = timing.step_ms(Step(1, 512, 0, 0, 0, 1_048_576))
    more_new = timing.step_ms(Step(1, 4096, 0, 0, 0, 1_048_576))
    more_beside = timing.step_ms(Step(1, 4096, 0, 8, 40_000, 1_048_576))

    assert 0 < least < more_new < more_beside


def test_what_is_fetched_from_afar_takes_longest(timing: Timing) -> None:
    assert timing.fetch_ms(0, 0) == 0
    assert 0 < timing.fetch_ms(4096, 0) < timing.fetch_ms(0, 4096) < timing.fetch_ms(4096, 4096)


def test_dynamos_prefill_is_its_polynomial() -> None:
    # 4.209989e-07 x 2290^2 + 1.518344e-02 x 2290 + 16.50142
    assert timing_named("dynamo").step_ms(Step(1, 2290, 0, 0, 0, 1_048_576)) == pytest.approx(53.479258, abs=1e-6)


def test_dynamos_decode_is_its_polynomial_up_to_a_full_cache() -> None:
    dynamo = timing_named("dynamo")

    # -25.74 / 16 + 54.01 / 4 + 5.74, and the same at a share of 1
    assert dynamo.step_ms(Step(0, 0, 0, 9, 250, 1000)) == pytest.approx(17.63375)
    assert dynamo.step_ms(Step(0, 0, 0, 9, 7000, 1000)) == pytest.approx(34.01)


def test_dynamo_takes_the_average_prompt_in_whole_tokens() -> None:
    dynamo = timing_named("dynamo")

    # 7 tokens of which 2 are cached, in two prompts: 2 x (3 - 1) new ones, not 5.
    assert dynamo.step_ms(Step(2, 5, 2, 0, 0, 1000)) == dynamo.step_ms(Step(1, 4, 0, 0, 0, 1000))
    assert dynamo.step_ms(Step(2, 1, 0, 0, 0, 1000)) == 0


def test_a_lone_sequence_on_an_h100_reads_all_weights_for_each_token() -> None:
    # 16.06 GB at 0.7 x 3.35 TB/s are 6.85 ms; 0.3 ms overhead; 1,000 tokens x 131,072 bytes are 0.06 ms.
    assert timing_named("h100_8b").step_ms(Step(0, 0, 0, 1, 1000, 1_048_576)) == pytest.approx(7.204, abs=0.002)


def test_a_long_prompt_on_an_h100_is_bound_by_compute() -> None:
    # 2 x 8.03e9 x 8192 FLOP at 494.5 TFLOPS are 266.1 ms, 4 x 32 x 4096 x 8192^2 / 2 are 35.6 ms, overhead 0.3 ms.
    assert timing_named("h100_8b").step_ms(Step(1, 8192, 0, 0, 0, 1_048_576)) == pytest.approx(301.9, abs=0.1)


def test_an_unknown_preset_says_which_there_are() -> None:
    with pytest.raises(BadTiming, match="no timing 'h200'; wanted one of dynamo, h100_70b, h100_8b"):
        timing_named("h200")


def test_a_fit_finds_what_made_the_measurements(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_text("\n".join(_measured()) + "\n")

    found = timing_from_file(path)

    for step in (Step(1, 3000, 0, 0, 0, 1), Step(4, 8192, 60_000, 0, 0, 1), Step(0, 0, 0, 20, 90_000, 1)):
        assert found.step_ms(step) == pytest.approx(FITTED.step_ms(step), rel=1e-6)


def test_a_fit_of_noise_has_no_negative_terms(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    falling = [f"prefill,{tokens},0,1,,{50 - tokens / 1000}" for tokens in (1000, 2000, 4000, 8000)]
    steady = [f"decode,,,{batch},{batch * 100},7" for batch in (1, 2, 4)]
    path.write_text("\n".join(["kind,new_tokens,cached_tokens,batch,context_tokens,ms", *falling, *steady]))

    found = timing_from_file(path)

    assert min(found.base_ms, found.token_ms, found.token_pair_ms, found.cached_pair_ms) >= 0
    assert found.step_ms(Step(0, 0, 0, 3, 300, 1)) == pytest.approx(7)


def test_the_fixed_cost_of_a_mixed_step_is_paid_once() -> None:
    # 8 + 10 + 0.1 + 0.1 for the prompt, 6 + 0.1 + 0.02 for the sequences, and 6 of the 14 only once.
    assert FITTED.step_ms(Step(1, 1000, 500, 2, 2000, 1)) == pytest.approx(18.32)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('{"kind": "prefill", "ms": -1, "new_tokens": 5}', r"steps:3: wanted milliseconds above 0; got ms -1"),
        ('{"kind": "prefill", "ms": 5}', r"steps:3: wanted new_tokens of a prefill"),
        ('{"kind": "decode", "ms": 5, "batch": 0}', r"steps:3: wanted a batch of at least 1"),
        ('{"kind": "train", "ms": 5}', r"steps:3: Invalid enum value 'train'"),
        ('{"kind": "decode", "ms": 5, "tokens": 9}', r"steps:3: .*unknown field `tokens`"),
        ('{"kind": "decode", "ms"', r"steps:3: wanted one JSON object a line"),
    ],
)
def test_a_bad_line_is_told_by_file_and_number(tmp_path: Path, line: str, wanted: str) -> None:
    path = tmp_path / "steps"
    path.write_text("\n".join([*_measured()[:2], line]))

    with pytest.raises(BadTiming, match=wanted):
        timing_from_file(path)


def test_a_bad_field_of_a_table_is_told_by_file_and_number(tmp_path: Path) -> None:
    path = tmp_path / "steps"
    path.write_text("kind,new_tokens,ms\nprefill,5,9\nprefill,many,9\n")

    with pytest.raises(BadTiming, match=r"steps:3: Expected `int`, got `str` - at `\$.new_tokens`"):
        timing_from_file(path)


def test_too_few_lines_of_a_kind_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "steps"
    path.write_text('{"kind": "decode", "ms": 5}\n' * 9)

    with pytest.raises(BadTiming, match="wanted at least 3 lines of kind prefill; got 0"):
        timing_from_file(path)


def test_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadTiming, match="No such file"):
        timing_from_file(tmp_path / "absent")


def _measured() -> list[str]:
    """What `FITTED` takes for steps of many sizes, as lines."""
    prompts = [(new, cached, batch) for new in (100, 1000, 8000) for cached in (0, 5000) for batch in (1, 3)]
    batches = [(batch, context) for batch in (1, 16, 64) for context in (1000, 200_000)]
    return [
        f'{{"kind": "prefill", "new_tokens": {new}, "cached_tokens": {cached}, "batch": {batch},'
        f' "ms": {FITTED.step_ms(Step(batch, new, cached, 0, 0, 1))}}}'
        for new, cached, batch in prompts
    ] + [
        f'{{"kind": "decode", "batch": {batch}, "context_tokens": {context},'
        f' "ms": {FITTED.step_ms(Step(0, 0, 0, batch, context, 1))}}}'
        for batch, context in batches
    ]
