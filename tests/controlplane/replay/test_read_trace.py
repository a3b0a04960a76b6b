"""Traces from files: three forms, and whatever is wrong with them."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any  # JSON

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplane.controlplane.replay.read_trace import read_trace
from kvplane.controlplane.replay.trace import BadTrace, TraceRequest, folded
from kvplane.controlplane.replay.trace_row import mooncake_rows
from kvplane.tests.controlplane.replay.shared_traces import shared_trace

OWN: dict[str, Any] = {
    "timestamp_ms": 0,
    "input_length": 40,
    "output_length": 5,
    "block_size": 16,
    "session_id": "s0",
    "turn": 1,
    "tenant": "acme",
    "hash_ranges": [[0, 3]],
}
MOONCAKE: dict[str, Any] = {"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [0, 1, 2]}


def lines(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


TWO = lines(OWN, OWN | {"timestamp_ms": 7.5, "hash_ranges": [[0, 2], [3, 1]], "session_id": "s1", "tenant": "globex"})


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], Path]:
    def written(data: bytes) -> Path:
        path = tmp_path / "made.jsonl"
        path.write_bytes(data)
        return path

    return written


File = Callable[[bytes], Path]


def test_this_projects_own_form(file: File) -> None:
    trace = read_trace(file(TWO))

    assert (trace.name, trace.block_tokens) == ("made", 16)
    assert trace.requests == [
        TraceRequest(0.0, 40, 5, ((0, 3),), "s0", "acme"),
        TraceRequest(7.5, 40, 5, ((0, 2), (3, 1)), "s1", "globex"),
    ]


def test_mooncakes_form_has_blocks_of_512_and_its_ids_are_folded(file: File) -> None:
    trace = read_trace(file(lines(MOONCAKE, MOONCAKE | {"timestamp": 3000, "hash_ids": [0, 1, 9]})))

    assert trace.block_tokens == 512
    assert [each.ranges for each in trace.requests] == [((0, 3),), ((0, 2), (9, 1))]
    assert [each.at_ms for each in trace.requests] == [0.0, 3000.0]


def test_mooncakes_form_with_other_blocks(file: File) -> None:
    assert read_trace(file(lines(MOONCAKE | {"input_length": 48})), block_tokens=16).block_tokens == 16


def test_mooncakes_form_is_the_same_trace_as_ours(file: File) -> None:
    ours = read_trace(shared_trace("mooncake_conversation_head"))
    theirs = read_trace(
        file(
            lines(
                *(
                    {
                        "timestamp": each.at_ms,
                        "input_length": each.prompt_tokens,
                        "output_length": each.output_tokens,
                        "hash_ids": each.block_ids.tolist(),
                    }
                    for each in ours.requests
                )
            )
        )
    )

    assert [(each.at_ms, each.ranges) for each in theirs.requests] == [
        (each.at_ms, each.ranges) for each in ours.requests
    ]


@given(st.lists(st.integers(0, 30) | st.integers(0, 2**62 - 1), unique=True, min_size=1, max_size=40))
def test_folding_and_reading_lose_no_id(ids: list[int]) -> None:
    line = lines(MOONCAKE | {"input_length": 512 * len(ids), "hash_ids": ids})
    (row,) = mooncake_rows("made", iter([(1, line)]), None)

    assert row.ranges == folded(ids)


def test_the_first_request_is_at_0_wherever_its_clock_began(file: File) -> None:
    trace = read_trace(file(lines(OWN | {"timestamp_ms": -3e6}, OWN | {"timestamp_ms": -3e6 + 20})))

    assert [each.at_ms for each in trace.requests] == [0.0, 20.0]


def test_prompts_without_ids_get_some_that_nobody_else_has(file: File) -> None:
    trace = read_trace(
        file(lines(OWN | {"hash_ranges": []}, OWN | {"hash_ranges": []}, OWN | {"hash_ranges": [[5, 3]]}))
    )

    assert [each.ranges for each in trace.requests] == [((8, 3),), ((11, 3),), ((5, 3),)]


def test_a_last_block_without_an_id_gets_its_own(file: File) -> None:
    trace = read_trace(file(lines(OWN | {"hash_ranges": [[0, 2]]}, OWN | {"hash_ranges": [[0, 2]]})))

    assert [each.ranges for each in trace.requests] == [((0, 2), (2, 1)), ((0, 2), (3, 1))]


def test_an_answer_of_no_tokens_is_one_of_one(file: File) -> None:
    assert read_trace(file(lines(OWN | {"output_length": 0}))).requests[0].output_tokens == 1


def test_ranges_that_continue_one_another_are_one(file: File) -> None:
    assert read_trace(file(lines(OWN | {"hash_ranges": [[4, 1], [5, 2]]}))).requests[0].ranges == ((4, 3),)


def test_a_last_line_that_is_unfinished_is_no_shorter_run(file: File) -> None:
    for cut in range(2, len(TWO) - TWO.index(b"\n") - 1, 9):
        with pytest.raises(BadTrace, match=r"made\.jsonl, line 2: Input data was truncated"):
            read_trace(file(TWO[:-cut]))


def test_a_last_line_may_lack_its_newline_and_blank_lines_say_nothing(file: File) -> None:
    assert len(read_trace(file(b"\n\n" + TWO.replace(b"\n", b"\r\n\n")[:-3])).requests) == 2


def test_lines_are_counted_as_an_editor_does(file: File) -> None:
    with pytest.raises(BadTrace, match="line 5: "):
        read_trace(file(b"\n" + lines(OWN) + b"\n\n" + b"nonsense\n" + lines(OWN)))


@pytest.mark.parametrize(
    "changed, why",
    [
        ({"input_length": 0}, r">= 1.*input_length"),
        ({"input_length": -5}, r">= 1.*input_length"),
        ({"input_length": 2**24 + 1}, r"<= 16777216.*input_length"),
        ({"input_length": 40.5}, r"`int`.*input_length"),
        ({"input_length": "40"}, r"`int`.*input_length"),
        ({"input_length": None}, r"`int`.*input_length"),
        ({"output_length": -1}, r">= 0.*output_length"),
        ({"output_length": 10**30}, r"`int`.*output_length"),
        ({"timestamp_ms": float("nan")}, r"malformed"),
        ({"timestamp_ms": float("inf")}, r"malformed"),
        ({"timestamp_ms": 1e16}, r"timestamp_ms"),
        ({"block_size": 0}, r">= 1.*block_size"),
        ({"block_size": 8, "hash_ranges": [[0, 5]]}, "wanted blocks of 16 tokens throughout, got 8"),
        ({"block_size": 8}, "wanted 5 ids for 40 tokens in blocks of 8, got 3; is it another block size?"),
        ({"hash_ranges": [[0, 4]]}, "wanted 3 ids for 40 tokens in blocks of 16, got 4"),
        ({"hash_ranges": [[0, 1]]}, "wanted 3 ids for 40 tokens in blocks of 16, got 1"),
        ({"hash_ranges": [[-1, 3]]}, r">= 0.*hash_ranges"),
        ({"hash_ranges": [[0, 0], [0, 3]]}, r">= 1.*hash_ranges"),
        ({"hash_ranges": [[2**62, 3]]}, r"<= 4611686018427387903.*hash_ranges"),
        ({"hash_ranges": [[0, 2**62]]}, r"<= 16777216.*hash_ranges"),
        ({"hash_ranges": [[0, 2], [1, 1]]}, "wanted each id once in a prompt, got 1 again"),
        ({"hash_ranges": [[0, 3, 1]]}, "length 2.*hash_ranges"),
        ({"tenant": 3}, "`str`.*tenant"),
    ],
)
def test_a_line_that_cannot_be_is_named(file: File, changed: dict[str, Any], why: str) -> None:
    with pytest.raises(BadTrace, match=why) as told:
        read_trace(file(lines(OWN, OWN | changed, OWN)))

    assert told.value.line == 2
    assert str(told.value).startswith(f"{told.value.source}, line 2: ")


def test_a_line_that_lacks_a_field_is_named_with_what_came(file: File) -> None:
    with pytest.raises(BadTrace, match=r"line 2: Object missing required field `block_size`; got \{"):
        read_trace(file(lines(OWN, {key: value for key, value in OWN.items() if key != "block_size"})))


def test_time_does_not_run_backwards(file: File) -> None:
    with pytest.raises(BadTrace, match=r"line 3: wanted a time not before 7\.5 ms, got 7 ms"):
        read_trace(file(TWO + lines(OWN | {"timestamp_ms": 7})))


def test_two_requests_may_come_at_once(file: File) -> None:
    assert len(read_trace(file(lines(OWN, OWN))).requests) == 2


def test_a_gap_of_years_is_an_error_in_the_file(file: File) -> None:
    with pytest.raises(BadTrace, match="line 2: wanted a trace of at most a year"):
        read_trace(file(lines(OWN, OWN | {"timestamp_ms": 1.7e12})))


def test_ids_that_do_not_fit_mooncakes_blocks(file: File) -> None:
    with pytest.raises(BadTrace, match="line 1: wanted 69 ids for 1100 tokens in blocks of 16, got 3"):
        read_trace(file(lines(MOONCAKE)), block_tokens=16)


def test_blocks_of_another_size_than_wanted(file: File) -> None:
    assert read_trace(file(TWO), block_tokens=16).block_tokens == 16
    with pytest.raises(BadTrace, match="line 1: wanted blocks of 32 tokens, got 16"):
        read_trace(file(TWO), block_tokens=32)
    with pytest.raises(BadTrace, match="wanted block_tokens of at least 1, got 0"):
        read_trace(file(TWO), block_tokens=0)


@pytest.mark.parametrize(
    "data, why",
    [
        (b"", "the file is empty"),
        (b"\n \n", "the file is empty"),
        (gzip.compress(b""), "the file is empty"),
        (b"[]", "the file is empty"),
        (
            b"{}\n",
            "line 1: wanted an object with one of the fields hash_ranges, hash_ids, candidates; its fields: none",
        ),
        (b'{"prompt": 1}\n', "its fields: prompt"),
        (b"3\n", "line 1: Expected `object`, got `int`"),
        (b"\x00\x01\x02\n", "line 1: JSON is malformed"),
        (b'{"hash_ranges": ' + b"[" * 100_000, "line 1: "),
        (b'{"hash_ids": [1], "\xff": 1}\n', "line 1: "),
    ],
)
def test_a_file_that_is_no_trace(file: File, data: bytes, why: str) -> None:
    with pytest.raises(BadTrace, match=why):
        read_trace(file(data))


def test_progress_is_told_now_and_then_and_at_the_end(file: File) -> None:
    told: list[int] = []
    read_trace(file(lines(*[OWN] * 5000)), progress=told.append)

    assert told == [2048, 4096, 5000]


@pytest.mark.parametrize(
    "name, requests, block_tokens, tenants",
    [
        ("mooncake_conversation_head", 6758, 512, 32),
        ("weka_claude_dev", 22428, 64, 69),
        ("azure2023_code", 8819, 16, 1),
        ("mix_dev", 22738, 64, 112),
    ],
)
def test_the_evaluation_traces_are_read_whole(name: str, requests: int, block_tokens: int, tenants: int) -> None:
    trace = read_trace(shared_trace(name))

    assert (trace.name, len(trace.requests), trace.block_tokens) == (name, requests, block_tokens)
    assert len({each.tenant for each in trace.requests}) == tenants
    assert all(blocks(each) == -(-each.prompt_tokens // block_tokens) for each in trace.requests)


def blocks(request: TraceRequest) -> int:
    counts: Sequence[int] = [count for _, count in request.ranges]
    return sum(counts)
