"""A prompt is looked up for one tenant or for all, and what is asked wrongly is answered by what was wanted."""

import pytest

from kvplane.controlplane.directory_find import Finder, Query
from kvplane.controlplane.errors import BadRequest
from kvplane.controlplane.tokens import Tokens, load_tokens
from kvplane.directory import HolderId, Holdings, domain_key
from kvplane.tests.routers import ACME, BLOCK, GLOBEX, KEYRING, MODEL, hold
from kvplane.workers import Capacity, EmbeddedSettings, prepare_model

KEYS = {
    f"{domain.organisation}/default": domain_key(KEYRING.salt(domain), MODEL, "", BLOCK) for domain in (ACME, GLOBEX)
}
TEXT = "abcdefghijk"  # eleven tokens of the tiny model: two whole blocks of four, and more


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return load_tokens(prepare_model(EmbeddedSettings(model="tiny", cache=tmp_path_factory.mktemp("models"))))


@pytest.fixture
def finder(tokens: Tokens) -> Finder:
    """Replica a holds all of the text for acme, b its first block for acme, c all of it for globex."""
    holdings = Holdings()
    hold(holdings, "a", tokens.text(TEXT))
    hold(holdings, "b", tokens.text(TEXT[:5]))
    hold(holdings, "c", tokens.text(TEXT), GLOBEX)
    capacity = Capacity(blocks=8, block_tokens=BLOCK, max_prompt_tokens=31, max_sequences=2)
    return Finder(tokens, capacity, holdings, [HolderId("a"), HolderId("b")], KEYS)


async def test_the_deepest_holder_comes_first_with_blocks_and_tokens_at_every_level(finder: Finder) -> None:
    found = await finder.find(Query(text=TEXT, tenant="acme/default"))

    assert (found["prompt_tokens"], found["prompt_blocks"]) == (11, 2)
    assert [(row["replica"], row["gpu_blocks"], row["gpu_tokens"]) for row in found["holders"]] == [
        ("a", 2, 8),
        ("b", 1, 4),
    ]
    assert found["holders"][0]["disk_blocks"] == 2


async def test_without_a_tenant_every_tenant_is_asked(finder: Finder) -> None:
    found = await finder.find(Query(text=TEXT))

    assert {(row["replica"], row["tenant"], row["live"]) for row in found["holders"]} == {
        ("a", "acme/default", True),
        ("b", "acme/default", True),
        ("c", "globex/default", False),
    }


async def test_token_ids_find_what_their_text_finds(finder: Finder, tokens: Tokens) -> None:
    ids = tuple(memoryview(tokens.text(TEXT)).cast("I"))

    assert await finder.find(Query(tokens=ids)) == await finder.find(Query(text=TEXT))


async def test_a_chat_is_rendered_as_a_request_would_be(finder: Finder, tokens: Tokens) -> None:
    rendered = tokens.chat([{"role": "user", "content": "hi"}])
    hold(finder.holdings, "b", rendered)
    found = await finder.find(Query(text="hi", chat=True, tenant="acme/default"))

    assert found["prompt_tokens"] == len(rendered) // 4
    assert [row["replica"] for row in found["holders"]] == ["b"]


@pytest.mark.parametrize(
    "query, wanted",
    [
        (Query(text=TEXT, tenant="initech/default"), "initech/default.* one of acme/default, globex/default"),
        (Query(text=""), "empty"),
        (Query(tokens=()), "empty"),
        (Query(), "give one of them"),
        (Query(text="a", tokens=(1,)), "give one of them"),
        (Query(tokens=(1,), chat=True), "chat goes with text"),
        (Query(text="x" * 32), "32 tokens, 1 more than the 31"),
        (Query(tokens=(10**6,)), "token ids run from 0"),
    ],
)
async def test_a_query_that_cannot_be_answered_says_what_was_wanted(finder: Finder, query: Query, wanted: str) -> None:
    with pytest.raises(BadRequest, match=wanted):
        await finder.find(query)
