"""Events as vLLM and SGLang published them on real runs, through the adapters and the closure."""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

import pytest

from kvplane.directory import Closure, DomainKey, Holdings, Level, Prefix, Segment, domain_key, holder_id
from kvplane.directory.prefix import Chain
from kvplane.directory.wire import names_of
from kvplane.tests.captures import batches, captured, messages
from kvplane.workers import sglang_events, vllm_events
from kvplane.workers.engine import BlockHash, Cleared, EngineEvent, Removed, Stored, WindowsRemoved, WindowsStored
from kvplane.workers.gaps import Lost, Message, in_order
from kvplane.workers.vllm_events import VllmEvents

BLOCK = 32
TIERS = ("gpu", "cpu", "disk")
ONE = holder_id("one")
OPEN_ENDED = 1 << 30
WHOLE = [
    ("vllm_events.bin", vllm_events.decode),
    ("vllm_events_offload.bin", vllm_events.decode),
    ("sglang_events.bin", sglang_events.decode),
]

Read = Callable[[bytes], Sequence[EngineEvent]]


def key_of(salt: str) -> DomainKey:
    return domain_key(salt, "model", "", BLOCK)


class Ledger:
    """What the events say, kept the naive way: everything ever told of a block, and its copies."""

    def __init__(self) -> None:
        self.copies = Counter[tuple[str, BlockHash]]()
        self.parents: dict[BlockHash, BlockHash | None] = {}
        self.words: dict[BlockHash, bytes] = {}
        self.salts: dict[BlockHash, str | None] = {}

    def note(self, event: EngineEvent) -> None:
        match event:
            case Stored():
                size = BLOCK * 4
                for index, block in enumerate(event.hashes):
                    self.copies[event.tier, block] += 1
                    self.parents.setdefault(block, event.hashes[index - 1] if index else event.parent)
                    self.words.setdefault(block, event.words[index * size : (index + 1) * size])
                    self.salts.setdefault(block, event.salt)
            case Removed():
                for block in event.hashes:
                    self.copies[event.tier, block] = max(0, self.copies[event.tier, block] - 1)
            case Cleared():
                self.copies.clear()

    def usable(self) -> dict[int, Level]:
        found: dict[int, Level] = {}
        for block in {block for (_, block), count in self.copies.items() if count}:
            name, level = self.stands(block)
            if level:
                found[name] = min(level, found.get(name, level))
        return found

    def stands(self, block: BlockHash) -> tuple[int, Level]:
        """A block's name, and the level at which it and all before it can be had."""
        path = self.path(block)
        for level in (Level.GPU, Level.CPU, Level.DISK):
            if path and all(any(self.copies[tier, each] for tier in TIERS[:level]) for each in path):
                return self._name(path), level
        return 0, Level.NONE

    def path(self, block: BlockHash | None) -> list[BlockHash]:
        """All blocks up to this one; none if one is not known."""
        path: list[BlockHash] = []
        while block is not None:
            if block not in self.parents:
                return []
            path.append(block)
            block = self.parents[block]
        return path[::-1]

    def _name(self, path: Sequence[BlockHash]) -> int:
        chain = Chain(key_of(self.salts[path[0]] or ""))
        return [chain.extend(self.words[block], BLOCK)[0] for block in path][-1]


@pytest.mark.parametrize("name, read", WHOLE)
def test_after_every_event_the_closure_says_what_a_ledger_says(name: str, read: Read) -> None:
    tree, ledger, told = Closure(key_of, BLOCK), Ledger(), dict[int, Level]()
    for number, event in enumerate(captured(name, read)):
        play(tree, event)
        ledger.note(event)
        told.update(levels(tree))
        if isinstance(event, Stored):
            last, level = ledger.stands(event.hashes[-1])
            assert told.get(last, Level.NONE) == level
        if number % 100 == 0 or isinstance(event, Cleared):
            assert {value: level for value, level in told.items() if level} == ledger.usable()

    assert {value: level for value, level in told.items() if level} == ledger.usable()
    assert told


@pytest.mark.parametrize("name, read", WHOLE)
def test_what_the_engine_went_on_from_was_promised(name: str, read: Read) -> None:
    ledger, resumed = Ledger(), 0
    for event in captured(name, read):
        if isinstance(event, Stored) and event.tier == "gpu" and event.parent is not None:
            resumed += 1
            assert ledger.stands(event.parent)[1] == Level.GPU
        ledger.note(event)

    assert resumed >= 7


def test_the_reuse_that_vllm_reported_was_promised() -> None:
    tree, table = Closure(key_of, BLOCK), Holdings()
    *before, report = batches("vllm_events.bin", vllm_events.decode)[:10]
    for event in (event for batch in before for event in batch):
        play(tree, event)
    table.apply(ONE, tree.drain())
    (reused,) = report

    assert isinstance(reused, Stored)
    assert len(reused.hashes) == 8
    assert table.find(prompt(reused.words)).extents(ONE) == (8, 8, 8)


@pytest.mark.parametrize("name, read", WHOLE)
def test_salted_prompts_stay_in_their_domain_in_every_tier(name: str, read: Read) -> None:
    tree = Closure(key_of, BLOCK)
    seen = Counter[tuple[str, int]]()
    for event in captured(name, read):
        play(tree, event)
        seen.update({(change.tag, change.level): len(names_of(change)) for change in tree.drain()})

    assert seen[key_of("tenantA").tag, Level.GPU] == 9
    assert {tag for tag, _ in seen} == {key_of("tenantA").tag, key_of("").tag}


def test_a_hybrid_model_is_promised_no_further_than_its_windows_reach() -> None:
    tree, table = Closure(key_of, BLOCK), Holdings()
    first, second, *others = batches("vllm_events_hybrid.bin", VllmEvents().read)
    long, short = words_of(first), words_of(second)

    def extent(words: bytes) -> int:
        table.apply(ONE, tree.drain())
        return table.find(prompt(words)).extents(ONE)[0]

    for event in first:
        play(tree, event)
    assert (len(long), len(short)) == (12 * BLOCK * 4, 9 * BLOCK * 4)
    assert long[: 8 * BLOCK * 4] == short[: 8 * BLOCK * 4]
    assert (extent(long), extent(short)) == (12, 0)  # vLLM reported 0 cached tokens
    for event in second:
        play(tree, event)
    assert (extent(long), extent(short), extent(short[: 8 * BLOCK * 4])) == (12, 9, 8)
    for batch in others:
        for event in batch:
            play(tree, event)
        assert extent(words_of(batch)) == len(words_of(batch)) // (BLOCK * 4) == 46


async def test_a_gap_in_the_middle_of_a_capture_is_repaired_through_replay() -> None:
    published = messages("vllm_events.bin")

    async def live() -> AsyncIterator[Message]:
        for message in published:
            if not 20 <= message.number < 60:
                yield message

    async def replay(wanted: int) -> AsyncGenerator[Message, None]:
        for message in published[wanted:]:
            yield message

    heard = [message async for message in in_order(live(), replay)]

    assert not any(isinstance(message, Lost) for message in heard)
    assert heard == published


def play(tree: Closure, event: object) -> None:
    match event:
        case Stored():
            tree.store(event.hashes, event.parent, event.words, event.tier, event.salt)
        case Removed():
            tree.remove(event.hashes, event.tier)
        case WindowsStored():
            tree.store_windows(event.hashes, event.group, event.reach, event.tier)
        case WindowsRemoved():
            tree.remove_windows(event.hashes, event.group, event.tier)
        case Cleared():
            tree.clear()


def words_of(batch: Sequence[object]) -> bytes:
    """Of the only run that a batch stores in the chain."""
    (words,) = [event.words for event in batch if isinstance(event, Stored)]
    return words


def prompt(words: bytes) -> Prefix:
    """Which goes on for one token, since the last one is always computed."""
    return Prefix(words + bytes(4), BLOCK, [Segment(key_of(""), OPEN_ENDED)])


def levels(tree: Closure) -> dict[int, Level]:
    return {value: Level(change.level) for change in tree.drain() for value in names_of(change)}
