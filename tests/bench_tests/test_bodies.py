"""The requests a benchmark sends."""

import json
from itertools import islice

import pytest

from kvplane.tests.bench.bodies import bodies


def prompts(count: int, size: int = 2048, seed: int = 1) -> list[str]:
    return [json.loads(body)["messages"][0]["content"] for body in islice(bodies("m", size, seed), count)]


@pytest.mark.parametrize("size", [2048, 65536])
def test_bodies_are_of_exactly_the_size_asked_for(size: int) -> None:
    assert {len(body) for body in islice(bodies("simulated", size, seed=1), 10)} == {size}


def test_no_two_prompts_are_the_same() -> None:
    assert len(set(prompts(200))) == 200


def test_beginnings_come_again_and_only_endings_are_new() -> None:
    first, *_, again, _ = prompts(6)

    assert first != again
    assert first[:-16] == again[:-16]
    assert len({prompt[:100] for prompt in prompts(40)}) == 4


def test_the_same_seed_asks_the_same() -> None:
    assert prompts(10) == prompts(10)
    assert prompts(10) != prompts(10, seed=2)


def test_a_size_that_holds_no_prompt_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least"):
        next(bodies("m", 20, seed=1))
