"""Prompts rebuilt from what was seen of them."""

import json
from pathlib import Path
from typing import Any  # JSON

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplane.controlplane.decision_row import DecisionRow
from kvplane.controlplane.replay.decision_log import decision_rows
from kvplane.controlplane.replay.read_trace import read_trace
from kvplane.controlplane.replay.references import infinite_extents
from kvplane.controlplane.replay.trace import BadTrace, Ranges, Trace
from kvplane.policies import Candidate, ReplicaId

SIZE = 16


def decision(
    at: int,
    prompt: int,
    served_by: str,
    held: dict[str, int] | None = None,
    *,
    tenant: str = "acme/default",
    model: str = "smollm2",
    actual: int | None = None,
    output: int | None = 4,
    block_tokens: int = SIZE,
) -> dict[str, Any]:
    """One as `kvplane decisions --json` prints it: `held` tokens of the prompt in some tier, by replica."""
    row = DecisionRow(
        id=f"{at:016x}",
        at_ns=1_795_516_282_000_000_000 + at * 1_000_000,
        took_us=300.0,
        tenant=tenant,
        model=model,
        router="r",
        policy="estimated_ttft",
        reason="longest prefix",
        chosen=served_by,
        propensity=1.0,
        prompt_tokens=prompt,
        max_tokens=64,
        block_tokens=block_tokens,
        predicted_cached_tokens=0,
        predicted_ttft_ms=None,
        directory_age_ms=1.0,
        candidates=tuple(Candidate(ReplicaId(name), 0, 0, tokens) for name, tokens in (held or {}).items()),
        scores={},
        basis={},
        trace_id="",
        span_id="",
        parent_span_id=None,
        served_by=served_by if output is not None else None,
        finish=None,
        actual_cached_tokens=actual,
        actual_ttft_ms=None,
        queue_ms=None,
        prefill_ms=None,
        total_ms=None,
        output_tokens=output,
    )
    return row.to_json()


def ranges(*decisions: dict[str, Any]) -> list[Ranges]:
    entries = [(number, json.dumps(each).encode()) for number, each in enumerate(decisions, 1)]
    return [row.ranges for row in decision_rows("log", iter(entries), None)]


def test_a_prompt_nobody_held_shares_nothing() -> None:
    assert ranges(decision(0, 40, "a"), decision(1, 40, "a", {"a": 0})) == [((0, 3),), ((3, 3),)]


def test_a_decision_that_was_declined_is_no_request_for_it_was_made_again() -> None:
    declined = decision(0, 40, "a") | {"finish": "declined"}

    assert ranges(declined, decision(1, 40, "b")) == [((0, 3),)]


def test_a_turn_begins_like_the_turn_before() -> None:
    """40 tokens and 4 of answer are 2 blocks of 16: the third block of the first turn was not full."""
    assert ranges(decision(0, 40, "a"), decision(1, 72, "a", {"a": 32, "b": 0})) == [((0, 3),), ((0, 2), (3, 3))]


def test_what_was_generated_is_not_shared_since_no_prompt_has_an_id_for_it() -> None:
    """The replica held 4 blocks, 2 of the prompt and 2 of the answer."""
    first, second = ranges(decision(0, 32, "a", output=32), decision(1, 72, "a", {"a": 64}))

    assert (first, second) == (((0, 2),), ((0, 2), (2, 3)))


def test_a_block_that_the_prompt_did_not_fill_is_not_shared() -> None:
    """The third block held is 8 tokens of prompt and 8 of answer."""
    assert ranges(decision(0, 40, "a", output=8), decision(1, 72, "a", {"a": 48}))[1] == ((0, 2), (3, 3))


def test_of_two_who_held_as_much_the_one_with_the_shorter_prompt_is_believed() -> None:
    decisions = [decision(0, 48, "b"), decision(1, 160, "a"), decision(2, 80, "a", {"a": 48, "b": 48})]

    assert ranges(*decisions)[2] == ((0, 3), (13, 2))


def test_of_all_that_could_be_continued_the_shortest_is() -> None:
    long, short, turn = ranges(decision(0, 160, "a"), decision(1, 48, "a"), decision(2, 80, "a", {"a": 48}))

    assert (long, short, turn) == (((0, 10),), ((10, 3),), ((10, 3), (13, 2)))


def test_of_two_as_short_the_later_is_continued() -> None:
    assert ranges(decision(0, 48, "a"), decision(1, 48, "a"), decision(2, 80, "a", {"a": 48}))[2] == ((3, 3), (6, 2))


def test_only_what_the_holder_served_can_be_continued() -> None:
    on_b = ranges(decision(0, 48, "b"), decision(1, 48, "a"), decision(2, 80, "a", {"a": 16, "b": 48}))

    assert on_b[2] == ((0, 3), (6, 2))


def test_where_the_log_has_no_such_prompt_nothing_is_shared() -> None:
    too_short = ranges(decision(0, 32, "a"), decision(1, 160, "a", {"a": 128}))
    unseen = ranges(decision(0, 160, "a"), decision(1, 160, "a", {"b": 128}))

    assert too_short == [((0, 2),), ((2, 10),)]
    assert unseen == [((0, 10),), ((10, 10),)]


def test_tenants_and_models_share_nothing() -> None:
    first = decision(0, 48, "a")

    assert ranges(first, decision(1, 48, "a", {"a": 32}, tenant="globex/default"))[1] == ((3, 3),)
    assert ranges(first, decision(1, 48, "a", {"a": 32}, model="tiny"))[1] == ((3, 3),)


def test_what_the_replica_reported_counts_where_the_directory_knew_less() -> None:
    assert ranges(decision(0, 48, "a"), decision(1, 80, "a", {"a": 0}, actual=48))[1] == ((0, 3), (3, 2))


def test_the_last_token_was_never_held() -> None:
    assert ranges(decision(0, 48, "a"), decision(1, 48, "a", {"a": 48}))[1] == ((0, 2), (3, 1))


def test_the_order_of_the_log_does_not_matter() -> None:
    decisions = [decision(0, 40, "a"), decision(1, 72, "a", {"a": 32}), decision(2, 90, "a", {"a": 64})]

    assert ranges(*reversed(decisions)) == ranges(*decisions)


def test_an_answer_that_was_not_reported_is_as_long_as_it_could_be() -> None:
    entries = [(1, json.dumps(decision(0, 40, "a", output=None)).encode())]

    assert [row.output_tokens for row in decision_rows("log", iter(entries), None)] == [64]


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_and_a_line_each_are_the_same_trace(tmp_path: Path, indent: int | None) -> None:
    decisions = [decision(500, 72, "a", {"a": 32}), decision(0, 40, "a")]  # the latest first, as they are printed
    array, each_a_line = tmp_path / "log.json", tmp_path / "log.jsonl"
    array.write_text(json.dumps(decisions, indent=indent) + "\n")
    each_a_line.write_text("".join(json.dumps(each) + "\n" for each in decisions))
    trace = read_trace(array)

    assert trace == read_trace(each_a_line)
    assert trace.block_tokens == SIZE
    assert [(each.at_ms, each.prompt_tokens, each.output_tokens, each.tenant) for each in trace.requests] == [
        (0.0, 40, 4, "acme/default"),
        (500.0, 72, 4, "acme/default"),
    ]


def test_an_entry_of_an_array_is_named_by_the_line_it_begins_at(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(f"[\n{json.dumps(decision(0, 40, 'a'), indent=2)},\n{json.dumps(decision(1, 0, 'a'))}\n]\n")
    begins = path.read_text().splitlines().index(json.dumps(decision(1, 0, "a"))) + 1

    with pytest.raises(BadTrace, match=rf"line {begins}: Expected `int` >= 1 - at `\$\.prompt_tokens`"):
        read_trace(path)


def test_an_array_that_is_cut_off_is_no_shorter_run(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    whole = json.dumps([decision(0, 40, "a"), decision(1, 40, "a")], indent=2)
    for kept in range(2, len(whole), 41):
        path.write_text(whole[:kept])

        with pytest.raises(BadTrace, match="wanted a whole JSON array"):
            read_trace(path)


def test_a_log_of_two_block_sizes_is_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps([decision(0, 40, "a"), decision(1, 40, "a", block_tokens=32)]))

    with pytest.raises(BadTrace, match="wanted blocks of 16 tokens throughout, got 32"):
        read_trace(path)
    with pytest.raises(BadTrace, match="wanted blocks of 32 tokens, got 16"):
        read_trace(path, block_tokens=32)


REPLICAS = st.sampled_from("abc")
SEEN = st.lists(
    st.tuples(
        st.integers(1, 200), REPLICAS, st.dictionaries(REPLICAS, st.integers(0, 300)), st.none() | st.integers(0, 300)
    ),
    max_size=30,
)


@given(SEEN)
def test_no_cache_finds_more_of_a_prompt_than_was_held(seen: list[tuple[int, str, dict[str, int], int | None]]) -> None:
    decisions = [decision(at, *each[:3], actual=each[3]) for at, each in enumerate(seen)]
    held = [max([*each[2].values(), each[3] or 0]) for each in seen]
    entries = [(number, json.dumps(each).encode()) for number, each in enumerate(decisions, 1)]
    rows = list(decision_rows("log", iter(entries), None))

    assert [sum(count for _, count in row.ranges) for row in rows] == [-(-each[0] // SIZE) for each in seen]
    assert all(extent * SIZE <= most for extent, most in zip(extents(rows), held, strict=True))


def extents(rows: list[Any]) -> list[int]:  # rows have what the look-up takes of requests
    reached: list[int] = infinite_extents(Trace("log", SIZE, rows)).tolist()
    return reached
