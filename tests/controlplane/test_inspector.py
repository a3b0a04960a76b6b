"""One router answers for an application: from its own mirror, the pages in the store, and what all others say."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import suppress

import pytest

from kvplane.controlplane.config import Settings
from kvplane.controlplane.directory_report import MirrorReport
from kvplane.controlplane.directory_verify import Mirrored
from kvplane.controlplane.errors import BadRequest
from kvplane.controlplane.inspector import Inspector
from kvplane.controlplane.roster import Roster
from kvplane.controlplane.sight import Sight
from kvplane.controlplane.tokens import load_tokens
from kvplane.directory import (
    Account,
    Batch,
    Changes,
    Checkpoint,
    Domain,
    HolderId,
    Holdings,
    Keyring,
    Level,
    Load,
    MemoryPages,
    Mirror,
    Overlay,
    Prefix,
    Segment,
    account_of,
    domain_key,
    holder_id,
    seal,
)
from kvplane.workers import Capacity, EmbeddedSettings, prepare_model

R = holder_id("r-0")
KEYRING = Keyring(b"m" * 32)
MAC = KEYRING.mac_key(R, 1)
DOMAINS = frozenset([Domain("acme", "default")])
TEXT = "abcdefghijk"  # eleven tokens of the tiny model
WAIT_S = 15


class OneOfEach:
    """One replica, which says what it is told to, and the one router under test."""

    def __init__(self, holding: tuple[Changes, ...]) -> None:
        self.holding = holding
        self.seq = 1
        self.pages = MemoryPages()
        self.rewritten = 0
        self.inspector: Inspector

    async def accounts(self, holders: Collection[HolderId]) -> Sequence[Account]:
        await self.beat()
        return [account_of(R, (1, self.seq), self.holding)]

    async def mirrored(self, holders: Collection[HolderId]) -> Sequence[Mirrored]:
        return [await self.inspector.mirrored(holders)]

    async def mirrors(self) -> Sequence[MirrorReport]:
        return [self.inspector.mirror_report()]

    async def rewrite(self, holders: Collection[HolderId]) -> None:
        self.rewritten += len(holders)
        await self.whole(self.holding)

    async def reload(self, wanted: Mapping[str, Collection[HolderId]]) -> None:
        self.inspector.reload(wanted)

    async def whole(self, changes: tuple[Changes, ...]) -> None:
        self.seq += 1
        await self.pages.checkpoint(seal(Checkpoint(R, 1, self.seq, Load(), changes), MAC))
        await self.beat()

    async def beat(self) -> None:
        self.seq += 1
        assert not (await self.pages.append(seal(Batch(R, 1, self.seq, Load()), MAC))).lost


def names(settings: Settings, words: bytes) -> tuple[Changes, ...]:
    """What a replica says that holds all of a prompt of acme's."""
    [domain], block_tokens = DOMAINS, settings.engine.block_tokens
    key = domain_key(KEYRING.salt(domain), settings.name, "", block_tokens)
    prefix = Prefix(words, block_tokens, (Segment(key, len(words)),))
    packed = b"".join(prefix.name(depth).to_bytes(8, "little") for depth in range(1, prefix.blocks + 1))
    return (Changes(key.tag, Level.GPU, packed),)


@pytest.fixture
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OneOfEach]:
    cache = tmp_path_factory.mktemp("models")
    engine = {"model": "tiny", "cache": cache, "block_tokens": 4}
    settings = Settings.load(None, engine=engine)
    tokens = load_tokens(prepare_model(EmbeddedSettings(model="tiny", cache=cache)))
    fleet = OneOfEach(names(settings, tokens.text(TEXT)))
    await fleet.whole(fleet.holding)
    roster, holdings = Roster(), Holdings()
    roster.update([R])
    mirror = Mirror(fleet.pages, holdings, KEYRING.mac_key, lambda *_: None, time.monotonic)
    sight = Sight(holdings, mirror, Overlay("r1", time.monotonic), roster)

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds / 20)

    async def capacity() -> Capacity:
        return Capacity(blocks=8, block_tokens=4, max_prompt_tokens=31, max_sequences=2)

    fleet.inspector = Inspector(
        "r1", settings, sight, fleet.pages, KEYRING, lambda: DOMAINS, tokens, capacity, fleet, sleep
    )
    following = asyncio.create_task(mirror.run(lambda: [R]))
    await until(lambda: mirror.seen(R) is not None)
    yield fleet
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.002)


async def test_stats_name_the_tenant_measure_the_page_and_tell_of_the_mirror(fleet: OneOfEach) -> None:
    told = await fleet.inspector.stats()

    assert [(row["tenant"], row["blocks"]) for row in told["tenants"]] == [("acme/default", 2)]
    assert [(row["replica"], row["blocks"]) for row in told["replicas"]] == [(R, 2)]
    assert told["replicas"][0]["bytes"] > 16
    assert told["routers"][0]["table_bytes"] > 0
    assert "0123456789abcdef" not in json.dumps(told)


async def test_find_reads_a_query_and_says_what_is_wrong_with_one(fleet: OneOfEach) -> None:
    found = await fleet.inspector.find(json.dumps({"text": TEXT}).encode())

    assert [(row["replica"], row["gpu_blocks"]) for row in found["holders"]] == [(R, 2)]
    with pytest.raises(BadRequest, match="unknown field"):
        await fleet.inspector.find(b'{"prompt": "x"}')


async def test_copies_that_agree_are_equal(fleet: OneOfEach) -> None:
    verified = await fleet.inspector.verify()

    assert (verified["equal"], verified["findings"]) == (True, ())
    assert verified["replicas"][0]["blocks"] == 2


async def test_a_mirror_with_a_block_too_many_reads_its_page_again_and_is_right(fleet: OneOfEach) -> None:
    stray = Changes(fleet.holding[0].tag, Level.CPU, (7).to_bytes(8, "little"))
    fleet.inspector.sight.holdings.apply(R, [stray])
    verified = await fleet.inspector.verify()

    [finding] = verified["findings"]
    assert (finding["copy"], finding["router"], finding["repaired"]) == ("mirror", "r1", True)
    assert finding["levels"] == ({"level": "cpu", "expected": 0, "found": 1},)
    assert fleet.inspector.sight.holdings.blocks(R) == 2
    assert fleet.rewritten == 0


async def test_a_page_that_lacks_a_block_is_written_anew_by_its_replica(fleet: OneOfEach) -> None:
    await fleet.whole(())
    verified = await fleet.inspector.verify()

    [finding] = verified["findings"]
    assert (finding["copy"], finding["repaired"]) == ("page", True)
    assert finding["levels"] == ({"level": "gpu", "expected": 2, "found": 0},)
    assert fleet.rewritten == 1
