"""Whatever a request says of whose it is, by any field, header or encoding, its cache stays its own key's."""

import json
import random
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice
from typing import Any, cast
from urllib.parse import quote

import numpy as np
import pytest

from kvplane.controlplane.accounts import BookReader, PublicPrefix, Rules, Tenant, digest_of, record_of
from kvplane.controlplane.accounts.memory_accounts import MemoryAccounts
from kvplane.controlplane.config import Settings
from kvplane.controlplane.decision import Decision
from kvplane.controlplane.gate import Gate
from kvplane.controlplane.http import build_http
from kvplane.controlplane.ingress import Ingress
from kvplane.controlplane.meeting import Meeting
from kvplane.controlplane.metrics import Metrics, RouterState
from kvplane.controlplane.public import PublicPrefixes
from kvplane.controlplane.public_probing import Probing
from kvplane.controlplane.router_half import RouterHalf
from kvplane.controlplane.tokens import Tokens, load_tokens
from kvplane.directory import Domain, Overlay, domain_key
from kvplane.policies import PolicySettings, build_policy
from kvplane.tests.routers import BLOCK, KEYRING, MODEL, TRACEPARENT, Router, hold, router
from kvplane.workers import Capacity, Delta, EmbeddedSettings, Sampling, Ticket, prepare_model

REQUESTS = 10_000
LAG_S = 1_000.0  # at each look at the clock: what one request will leave is forgotten before the next
PROMPTS = [f"{text} " * 4 for text in ("the victim's own words", "a secret recipe", "naïve café, 東京", "x = 1\n\ty")]


@dataclass(frozen=True)
class Key:
    """An API key, and what it is bound to."""

    secret: str
    domain: Domain
    rules: Rules = field(default_factory=Rules)

    @property
    def tenant(self) -> Tenant:
        return Tenant(organisation=self.domain.organisation, workspace=self.domain.workspace, rules=self.rules)

    def salts(self, parts: Sequence[str]) -> set[str]:
        """Those that its requests may have."""
        own = parts if self.rules.subdivide_by else ()
        return {KEYRING.salt(replace(self.domain, part=part)) for part in ("", *own)}


BY_USER = Rules(subdivide_by="user")
VICTIM = Key("sk-victim-0123456789", Domain("a", "bc"))
VICTIM_OF_PARTS = Key("sk-parted-0123456789", Domain("d", "e", "xy"), BY_USER)
LEFT, RIGHT = (Key(f"sk-{name}-0123456789", Domain(name, "default"), BY_USER) for name in ("left", "right"))
ATTACKERS = [
    Key("sk-joined-0123456789", Domain("ab", "c")),  # the victim's name, if its parts were only joined
    Key("sk-within-0123456789", Domain("a", "bc", "team")),
    Key("sk-pieces-0123456789", Domain("d", "e", "x"), BY_USER),  # its part "y" likewise
    Key("sk-dividr-0123456789", Domain("a", "g"), BY_USER),
    Key("sk-cacher-0123456789", Domain("h", "bc"), Rules(subdivide_by="prompt_cache_key")),
]
SALT = KEYRING.salt(VICTIM.domain)
FORGED = [
    SALT, SALT.upper(), digest_of(VICTIM.secret), digest_of(VICTIM.secret)[:12], VICTIM.secret, VICTIM.tenant.name,
    domain_key(SALT, MODEL, "", BLOCK).tag, "a", "bc", "y", "abc", "a\0bc", "\0\0\0\1a\0\0\0\2bc", "a%2Fbc", "%61/bc",
    "\uff41/\uff42\uff43", "a\u200b/bc", "A/BC", "session-of-the-victim", "ann", "\0", " ",
]  # fmt: skip
FIELDS = [
    "user", "safety_identifier", "prompt_cache_key", "cache_salt", "session_id", "organisation", "organization",
    "workspace", "tenant", "isolation_key", "domain", "part", "salt", "api_key", "\uff55ser", "us\\u0065r",
]  # fmt: skip
NESTS = ["metadata", "extra_body", "kv_transfer_params", "stream_options", "cache_control", "user_info"]
HEADERS = [
    "x-tenant-id", "x-organization", "openai-organization", "openai-project", "x-session-id", "x-cache-salt", "cookie",
    "x-user", "x-forwarded-user", "api-key", "proxy-authorization", "x-request-id", "traceparent", "baggage",
]  # fmt: skip


class Replicas:
    """In place of all replicas: has the victims' prompts under their salts, keeps every ticket."""

    def __init__(self) -> None:
        self.held: dict[str, list[bytes]] = {}
        self.tickets: list[Ticket] = []
        self.hits = 0

    async def __call__(self, ticket: Ticket, words: bytes, _: Sampling) -> AsyncGenerator[Delta, None]:
        found = words in self.held.get(ticket.salt, ())
        self.tickets.append(ticket)
        self.hits += found
        yield Delta((1,), len(words) // 4 - 1 if found else 0, 0.0, 0.0, "length")


class Front(Ingress):
    """Serve's ingress without Serve: its parts are put in where others are opened."""

    def __del__(self) -> None: ...  # type: ignore[override]  # nothing is open that Serve would await


@dataclass
class Fleet:
    """The HTTP surface, and what can be seen behind it."""

    tokens: Tokens
    made: Router
    replicas: Replicas = field(default_factory=Replicas)
    decisions: list[Decision] = field(default_factory=list)

    def hold(self, domain: Domain) -> None:
        """Let replica and directory have every prompt, in each of its forms, of one domain."""
        for prompt in PROMPTS:
            for words in (self.tokens.text(prompt), self.tokens.chat([{"role": "user", "content": prompt}])):
                self.replicas.held.setdefault(KEYRING.salt(domain), []).append(words)
                hold(self.made.sight.holdings, "b", words, domain)

    def note(self, decision: Decision) -> str:
        self.decisions.append(decision)
        return TRACEPARENT


async def open_front(fleet: Fleet, keys: Sequence[Key], public: Sequence[PublicPrefix] = ()) -> Front:
    accounts, settings = MemoryAccounts(time.monotonic), Settings.load(None, engine="tiny", served_name=MODEL)
    for key in keys:
        await accounts.put(key.tenant)
        await accounts.add_key(record_of(key.secret, key.tenant, key.domain.isolation_key))
    for prefix in public:
        await accounts.publish(prefix)
    front, sight = Front.__new__(Front), fleet.made.sight
    front._settings, front._tokens, front._queue = settings, fleet.tokens, None
    front._book = BookReader(accounts)
    await front._book.look()
    front._probing = Probing(time.monotonic)
    front._public = PublicPrefixes(fleet.tokens, BLOCK, front._probing)
    front._gate = Gate(accounts, "r1", lambda: 1, BLOCK)
    front._meeting = Meeting(settings, cast(Any, None))  # Any: no handle, for they have met
    front._meeting.capacity = Capacity(blocks=1000, block_tokens=BLOCK, max_prompt_tokens=1000, max_sequences=8)
    front._meeting._met.set()
    front._metrics = Metrics(lambda: RouterState(0, 0, 0.0, 0, 0, 0, {}, 0))
    front._decider = fleet.made.decider
    front._half = RouterHalf(front._decider, fleet.replicas, sight.roster, fleet.note)
    return front


@dataclass(frozen=True)
class Sent:
    """One request as bytes; fields in order, so that one may stand twice."""

    fields: Sequence[tuple[str, object]]
    headers: Sequence[tuple[str, str]]
    chat: bool = False
    query: str = ""
    ascii: bool = True

    @property
    def body(self) -> bytes:
        pairs = (f'"{name}":{json.dumps(value, ensure_ascii=self.ascii)}' for name, value in self.fields)
        return f"{{{','.join(pairs)}}}".encode()


async def send(application: Any, sent: Sent) -> int:  # Any: an ASGI application's own
    """The status of the answer, once it was read to its end."""
    path = "/v1/chat/completions" if sent.chat else "/v1/completions"
    headers = [(name.lower().encode(), value.encode()) for name, value in sent.headers]  # as servers do
    scope = {"type": "http", "asgi": {"spec_version": "2.4"}, "method": "POST", "path": path, "headers": headers}
    statuses: list[int] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": sent.body, "more_body": False}

    async def take(message: Mapping[str, Any]) -> None:  # Any: ASGI's own
        statuses.extend([message["status"]] if "status" in message else [])

    await application({**scope, "query_string": sent.query.encode()}, receive, take)
    return statuses[0]


def plain(key: Key, prompt: str, tokens: Tokens, form: int, *more: tuple[str, object]) -> Sent:
    """An honest request: text, token ids, a chat of text or of parts."""
    content = (prompt, np.frombuffer(tokens.text(prompt), "<u4").tolist(), prompt, [{"type": "text", "text": prompt}])[
        form
    ]
    asked = ("messages", [{"role": "user", "content": content}]) if form > 1 else ("prompt", content)
    fields = [("model", MODEL), ("max_tokens", 1), asked, *more]
    return Sent(fields, [("authorization", f"Bearer {key.secret}")], chat=form > 1)


def forgeries(tokens: Tokens, seed: int) -> Iterator[tuple[Key, Sent]]:
    """Attackers' requests for a victim's prompts, without end: lies in up to four places each."""
    draw = random.Random(seed)
    while True:
        key = draw.choice(ATTACKERS)
        sent = plain(key, draw.choice(PROMPTS), tokens, draw.randrange(4), ("stream", draw.random() < 0.3))
        sent = replace(sent, ascii=draw.random() < 0.5, headers=login(key, draw))
        for _ in range(draw.randint(1, 4)):
            sent = draw.choice((field_too, nest_too, message_too, header_too, query_too))(sent, draw)
        yield key, sent


def login(key: Key, draw: random.Random) -> list[tuple[str, str]]:
    """The attacker's key in either header or both; seldom the victim's secrets in its place or beside it."""
    own, other = ("Authorization", f"Bearer {key.secret}"), ("X-Api-Key", key.secret)
    if draw.random() < 0.04:
        known = ("X-Api-Key", draw.choice((SALT, digest_of(VICTIM.secret), VICTIM.tenant.name)))
        return draw.choice(([known], [own, known], [own, ("x-api-key", VICTIM.secret)]))
    return draw.choice(([own, other], [other, own], [own], [other]))


def field_too(sent: Sent, draw: random.Random) -> Sent:
    """A field of the body, now and then twice."""
    name = draw.choice(FIELDS)
    lies: list[tuple[str, object]] = [(name, draw.choice(FORGED)) for _ in range(draw.randint(1, 2))]
    return replace(sent, fields=[*lies, *sent.fields] if draw.random() < 0.5 else [*sent.fields, *lies])


def nest_too(sent: Sent, draw: random.Random) -> Sent:
    lies = {draw.choice(FIELDS[:-1]): draw.choice(FORGED) for _ in range(2)}
    return replace(sent, fields=[*sent.fields, (draw.choice(NESTS), lies)])


def message_too(sent: Sent, draw: random.Random) -> Sent:
    """Beside a message's text, and beside that of its parts."""
    lie = {draw.choice(FIELDS[:-1]): draw.choice(FORGED), "name": draw.choice(FORGED)}

    if not sent.chat:
        return sent
    [message] = cast(list[dict[str, Any]], dict(sent.fields)["messages"])  # Any: OpenAI's shape
    parts = message["content"]
    content = parts if isinstance(parts, str) else [{**lie, **part} for part in parts]
    messages = [{**lie, **message, "content": content}]
    return replace(sent, fields=[*(pair for pair in sent.fields if pair[0] != "messages"), ("messages", messages)])


def header_too(sent: Sent, draw: random.Random) -> Sent:
    spelt = draw.choice(
        (str.lower, str.upper, str.title, lambda name: name.replace("-", "%2D"), lambda name: f"{name} ")
    )
    value = draw.choice((str, quote))(draw.choice(FORGED))
    return replace(sent, headers=[*sent.headers, (spelt(draw.choice(HEADERS)), value)])


def query_too(sent: Sent, draw: random.Random) -> Sent:
    return replace(sent, query=f"{sent.query}&{draw.choice(FIELDS[:-1])}={quote(draw.choice(FORGED))}")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return load_tokens(prepare_model(EmbeddedSettings(model="tiny", cache=tmp_path_factory.mktemp("models"))))


@pytest.fixture
def fleet(tokens: Tokens) -> Fleet:
    policy, overlay = build_policy(PolicySettings(), random.Random(1)), Overlay("r1", count(0.0, LAG_S).__next__)
    return Fleet(tokens, router(policy, overlay=overlay))


async def test_ten_thousand_forged_requests_reach_no_cache_but_their_own(fleet: Fleet) -> None:
    application = build_http(await open_front(fleet, [VICTIM, VICTIM_OF_PARTS, *ATTACKERS]))
    fleet.hold(VICTIM.domain)
    fleet.hold(VICTIM_OF_PARTS.domain)
    statuses, strangers = [], []
    for key, sent in islice(forgeries(fleet.tokens, seed=9), REQUESTS):
        before = len(fleet.replicas.tickets)
        statuses.append(await send(application, sent))
        own = {(salt, key.tenant.name) for salt in key.salts(FORGED)}
        strangers += [sent for each in fleet.replicas.tickets[before:] if (each.salt, each.tenant) not in own]

    assert set(statuses) == {200, 401}  # refused: no key, or two that differ
    assert statuses.count(200) > 0.9 * REQUESTS
    assert len(fleet.replicas.tickets) == len(fleet.decisions) == statuses.count(200)
    assert strangers == []
    assert fleet.replicas.hits == 0
    assert max(each.cached_tokens for decision in fleet.decisions for each in decision.candidates) == 0


@pytest.mark.parametrize("key", [VICTIM, VICTIM_OF_PARTS], ids=lambda key: key.tenant.name)
async def test_the_victim_itself_finds_every_prompt_in_every_form(fleet: Fleet, key: Key) -> None:
    application = build_http(await open_front(fleet, [key]))
    fleet.hold(key.domain)
    asked = [plain(key, prompt, fleet.tokens, form) for prompt in PROMPTS for form in range(4)]
    statuses = [await send(application, sent) for sent in asked]

    assert statuses == [200] * len(asked)
    assert fleet.replicas.hits == len(asked)
    assert all(max(each.cached_tokens for each in decision.candidates) > 0 for decision in fleet.decisions)


async def test_two_tenants_that_divide_by_the_same_users_share_none_of_their_parts(fleet: Fleet) -> None:
    application = build_http(await open_front(fleet, [LEFT, RIGHT]))
    fleet.hold(replace(LEFT.domain, part="ann"))
    ann = ("user", "ann")
    others = [("user", other) for other in ("bob", "Ann", "ann\0", "")] + [("prompt_cache_key", "ann")]
    asked = [(LEFT, ann), (RIGHT, ann), *((LEFT, other) for other in (*others, ("metadata", {"user": "ann"})))]
    hits = []
    for key, said in asked:
        before = fleet.replicas.hits
        assert await send(application, plain(key, PROMPTS[0], fleet.tokens, 0, said)) == 200
        hits.append(fleet.replicas.hits - before)

    assert hits == [1] + [0] * 7
    assert [any(each.cached_tokens for each in one.candidates) for one in fleet.decisions] == [True] + [False] * 7
