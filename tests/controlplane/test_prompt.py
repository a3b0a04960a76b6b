"""A prompt is refused before it is tokenised if it cannot fit, and by the token if it does not."""

import pytest

from kvplane.controlplane.errors import BadRequest
from kvplane.controlplane.openai import Completion
from kvplane.controlplane.prompt import room, words_of
from kvplane.controlplane.tokens import Tokens, load_tokens
from kvplane.workers import Capacity, EmbeddedSettings, prepare_model

CAPACITY = Capacity(blocks=8, block_tokens=4, max_prompt_tokens=31, max_sequences=2)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return load_tokens(prepare_model(EmbeddedSettings(model="tiny", cache=tmp_path_factory.mktemp("models"))))


async def test_a_prompt_that_fits_leaves_the_rest_of_the_context(tokens: Tokens) -> None:
    words = await words_of(Completion(model="m", prompt="abcd"), tokens, CAPACITY)

    assert len(words) == 4 * 4
    assert room(words, CAPACITY) == 28


async def test_a_prompt_too_long_is_told_by_how_much(tokens: Tokens) -> None:
    words = await words_of(Completion(model="m", prompt="x" * 40), tokens, CAPACITY)

    with pytest.raises(BadRequest, match="40 tokens, 9 more than the 31"):
        room(words, CAPACITY)


async def test_a_prompt_that_cannot_fit_is_not_even_tokenised(tokens: Tokens) -> None:
    with pytest.raises(BadRequest, match="characters"):
        await words_of(Completion(model="m", prompt="x" * 100_000), tokens, CAPACITY)


async def test_an_empty_prompt_is_refused(tokens: Tokens) -> None:
    words = await words_of(Completion(model="m", prompt=""), tokens, CAPACITY)

    with pytest.raises(BadRequest, match="empty"):
        room(words, CAPACITY)
