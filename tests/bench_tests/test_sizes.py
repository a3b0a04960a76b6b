"""Sizes as people write them."""

import pytest

from kvplane.tests.bench.errors import BenchError
from kvplane.tests.bench.sizes import shown, sizes


def test_k_is_a_thousand_blocks_or_1024_tokens() -> None:
    assert sizes("100k,1M", 1000) == (100_000, 1_000_000)
    assert sizes("512, 4k,131072", 1024) == (512, 4096, 131072)


@pytest.mark.parametrize("text", ["", "k", "4kk", "-1", "4.5k", "1,,2", "many"])
def test_what_is_no_size_is_an_error(text: str) -> None:
    with pytest.raises(BenchError, match="a size is a number"):
        sizes(text, 1000)


@pytest.mark.parametrize("text", ["7", "1k", "8,1k"])
def test_a_size_out_of_bounds_is_an_error(text: str) -> None:
    with pytest.raises(BenchError, match="this size is 8 to 900; got"):
        sizes(text, 1000, 8, 900)


@pytest.mark.parametrize(("size", "kilo", "text"), [(131072, 1024, "128k"), (10**7, 1000, "10M"), (0, 1000, "0")])
def test_sizes_are_shown_as_they_are_written(size: int, kilo: int, text: str) -> None:
    assert shown(size, kilo) == text
