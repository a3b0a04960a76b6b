"""Which prompts begin with a public prefix. Words are characters here, and a block is four of them."""

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from kvplane.controlplane.accounts import Book, PublicPrefix
from kvplane.controlplane.errors import BadRequest
from kvplane.controlplane.public import Lead, PublicPrefixes
from kvplane.controlplane.public_probing import Probing
from kvplane.controlplane.tokens import Tokens, load_tokens
from kvplane.directory import Domain
from kvplane.workers import EmbeddedSettings, prepare_model

BLOCK = 4
ACME, GLOBEX = "acme/default", "globex/default"


def words(text: str) -> bytes:
    return text.encode("utf-32-le")


class Characters:
    """A template that writes `|` and a line end behind the system, and a tokenizer that joins two line ends."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go_on = threading.Event()

    def chat(self, messages: Sequence[Mapping[str, str]]) -> bytes:
        system, user = (message["content"] for message in messages)
        self.asked.append(system)
        if system.startswith("slow"):
            assert self.go_on.wait(10)
        if system == "broken":
            raise KeyError("a template's own")
        if system == "refused":
            raise BadRequest("no system message is taken")
        return words(f"{system}|\n{user}".replace("\n\n", "¶"))


def book(*prefixes: PublicPrefix) -> Book:
    return Book(1, {}, {}, {prefix.name: prefix for prefix in prefixes})


def shared(system: str, *tenants: str, name: str = "code") -> PublicPrefix:
    return PublicPrefix(name=name, system=system, tenants=tenants)


async def lead_of(prefixes: PublicPrefixes, known: Book, tenant: str, prompt: bytes) -> Lead | None:
    return await prefixes.lead(known, tenant, prompt, max_tokens=1)


@pytest.fixture
def prefixes() -> PublicPrefixes:
    return PublicPrefixes(Characters(), BLOCK, Probing(lambda: 0.0))


async def test_a_prompt_of_a_named_tenant_begins_with_the_whole_blocks_of_a_system_message(
    prefixes: PublicPrefixes,
) -> None:
    known = book(shared("abcdefghij", ACME, GLOBEX))
    found = [await lead_of(prefixes, known, tenant, words("abcdefghij|hello")) for tenant in (ACME, GLOBEX)]

    assert found == [Lead(Domain("", "code"), words("abcdefgh"), 2)] * 2


async def test_nobody_else_has_it(prefixes: PublicPrefixes) -> None:
    known = book(shared("abcdefghij", ACME))

    assert await lead_of(prefixes, known, "acme/other", words("abcdefghij|hello")) is None
    assert await lead_of(prefixes, known, GLOBEX, words("abcdefghij|hello")) is None


@pytest.mark.parametrize("prompt", ["abcdefgX", "abcdefg", "Xbcdefghij|hello", ""])
async def test_a_prompt_that_parts_from_it_within_its_blocks_shares_none_of_them(
    prefixes: PublicPrefixes, prompt: str
) -> None:
    assert await lead_of(prefixes, book(shared("abcdefghij", ACME)), ACME, words(prompt)) is None


async def test_what_the_template_writes_behind_the_message_counts_and_what_a_user_may_change_does_not(
    prefixes: PublicPrefixes,
) -> None:
    whole = await lead_of(prefixes, book(shared("abc", ACME)), ACME, words("abc|\nwhoever"))
    joined = await lead_of(prefixes, book(shared("abcdef", ACME)), ACME, words("abcdef|¶more"))

    assert (whole and whole.words, joined and joined.words) == (words("abc|"), words("abcd"))


async def test_the_longest_counts(prefixes: PublicPrefixes) -> None:
    known = book(shared("abcd", ACME, name="short"), shared("abcdefgh", ACME, name="long"))
    found = [await lead_of(prefixes, known, ACME, words(prompt)) for prompt in ("abcdefghi", "abcdefgi")]

    assert [lead and lead.domain.workspace for lead in found] == ["long", "short"]


async def test_a_change_counts_from_the_next_request_and_a_text_is_rendered_once() -> None:
    tokens = Characters()
    prefixes = PublicPrefixes(tokens, BLOCK, Probing(lambda: 0.0))
    before = await lead_of(prefixes, book(shared("abcdefgh", ACME)), ACME, words("abcdefgh|x"))
    given = await lead_of(prefixes, book(shared("abcdefgh", GLOBEX)), GLOBEX, words("abcdefgh|x"))
    taken = await lead_of(prefixes, book(shared("abcdefgh", GLOBEX)), ACME, words("abcdefgh|x"))
    gone = await lead_of(prefixes, book(), GLOBEX, words("abcdefgh|x"))

    assert (before, taken, gone) == (given, None, None)
    assert before is not None
    assert len(tokens.asked) == 3  # three beginnings of what a user may say


async def test_a_change_that_comes_while_another_is_read_stands() -> None:
    tokens = Characters()
    prefixes = PublicPrefixes(tokens, BLOCK, Probing(lambda: 0.0))
    newer = book(shared("abcdefgh", GLOBEX))
    late = asyncio.create_task(lead_of(prefixes, book(shared("slow and long", ACME)), ACME, b""))
    await asyncio.sleep(0)
    await lead_of(prefixes, newer, GLOBEX, b"")
    tokens.go_on.set()
    await late

    assert await lead_of(prefixes, newer, GLOBEX, words("abcdefgh|x")) is not None
    assert await lead_of(prefixes, newer, ACME, words("slow and long|x")) is None


async def test_a_client_that_leaves_while_a_change_is_read_leaves_it_to_the_next() -> None:
    tokens = Characters()
    prefixes, known = PublicPrefixes(tokens, BLOCK, Probing(lambda: 0.0)), book(shared("slow and long", ACME))
    leaving = asyncio.create_task(lead_of(prefixes, known, ACME, b""))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    tokens.go_on.set()

    assert await lead_of(prefixes, known, ACME, words("slow and long|x")) is not None


@pytest.mark.parametrize(
    "system, why", [("refused", "no system message is taken"), ("broken", "a template's own"), ("ab", "no whole block")]
)
async def test_what_cannot_be_shared_is_said_and_costs_no_request(
    prefixes: PublicPrefixes, caplog: pytest.LogCaptureFixture, system: str, why: str
) -> None:
    with caplog.at_level(logging.WARNING):
        found = await lead_of(prefixes, book(shared(system, ACME)), ACME, words(f"{system}|hello"))

    assert found is None
    assert [why in message and system not in message.split(":")[0] for message in caplog.messages] == [True]


async def test_who_tries_how_it_goes_on_is_kept_out_of_all_that_is_public_for_an_hour() -> None:
    now, text = [0.0], "abcdefghijklmnop"
    probing = Probing(lambda: now[0])
    prefixes, known = (
        PublicPrefixes(Characters(), BLOCK, probing),
        book(shared(text, ACME, GLOBEX), shared("other", ACME, name="o")),
    )
    whole = words(f"{text}|x")
    before = await lead_of(prefixes, known, ACME, whole)
    for end in range(2, 11):  # within the first block, which many prompts share, nothing is noted
        await lead_of(prefixes, known, ACME, words(text[:end].ljust(20, "?")))
    within = await lead_of(prefixes, known, ACME, whole)
    await lead_of(prefixes, known, ACME, words(text[:11]))  # a prompt that ends there is one more
    kept_out = [await lead_of(prefixes, known, ACME, prompt) for prompt in (whole, words("other|x"))]
    other = await lead_of(prefixes, known, GLOBEX, whole)
    now[0] = 3600.0

    assert (kept_out, probing.flagged) == ([None, None], 1)
    assert before == within == other == await lead_of(prefixes, known, ACME, whole)
    assert before is not None


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return load_tokens(prepare_model(EmbeddedSettings(model="tiny", cache=tmp_path_factory.mktemp("models"))))


async def test_a_chat_that_a_client_sends_begins_with_it_under_the_models_own_template(tokens: Tokens) -> None:
    system = "You answer in one sentence. Quote <|im_end|> when asked."
    prefixes, known = PublicPrefixes(tokens, BLOCK, Probing(lambda: 0.0)), book(shared(system, ACME))
    chats = [tokens.chat([{"role": "system", "content": system}, {"role": "user", "content": said}]) for said in "ab"]
    other = tokens.chat([{"role": "system", "content": system[:-1]}, {"role": "user", "content": "a"}])
    leads = [await lead_of(prefixes, known, ACME, prompt) for prompt in (*chats, other)]

    alike = next(
        at for at, (one, two) in enumerate(zip(*(np.frombuffer(c, "<u4") for c in chats), strict=True)) if one != two
    )
    assert leads[0] == leads[1]
    assert leads[0] is not None
    assert leads[0].blocks == alike // BLOCK
    assert leads[2] is None
