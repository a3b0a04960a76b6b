"""Events as vLLM published them on a real run, through the adapter and the closure."""

from collections import Counter
from collections.abc import Sequence

import pytest

from kvplane.directory import Closure, DomainKey, Level, domain_key
from kvplane.directory.prefix import Chain
from kvplane.directory.wire import names_of
from kvplane.tests.captures import captured
from kvplane.workers.engine import BlockHash, Cleared, EngineEvent, Removed, Stored

BLOCK = 32
TIERS = ("gpu", "cpu", "disk")


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
            path = self._path(block)
            if path is not None and (level := self._level(path)):
                name = self._name(path)
                found[name] = min(level, found.get(name, level))
        return found

    def _path(self, block: BlockHash | None) -> list[BlockHash] | None:
        path: list[BlockHash] = []
        while block is not None:
            if block not in self.parents:
                return None
            path.append(block)
            block = self.parents[block]
        return path[::-1]

    def _level(self, path: Sequence[BlockHash]) -> Level:
        for level in (Level.GPU, Level.CPU, Level.DISK):
            if all(any(self.copies[tier, block] for tier in TIERS[:level]) for block in path):
                return level
        return Level.NONE

    def _name(self, path: Sequence[BlockHash]) -> int:
        chain = Chain(key_of(self.salts[path[0]] or ""))
        return [chain.extend(self.words[block], BLOCK)[0] for block in path][-1]


@pytest.mark.parametrize("name", ["vllm_events.bin", "vllm_events_offload.bin"])
def test_after_every_hundredth_event_the_closure_says_what_a_ledger_says(name: str) -> None:
    tree, ledger, told = Closure(key_of, BLOCK), Ledger(), dict[int, Level]()
    for number, event in enumerate(captured(name)):
        play(tree, event)
        ledger.note(event)
        if number % 100 == 0:
            told.update(levels(tree))

            assert {value: level for value, level in told.items() if level} == ledger.usable()

    assert told


def test_a_salted_prompt_stays_in_its_domain_in_every_tier() -> None:
    tree = Closure(key_of, BLOCK)
    seen = Counter[tuple[str, int]]()
    for event in captured("vllm_events_offload.bin"):
        play(tree, event)
        seen.update({(change.tag, change.level): len(names_of(change)) for change in tree.drain()})

    assert seen[key_of("tenantA").tag, Level.GPU] > 0
    assert {tag for tag, _ in seen} == {key_of("tenantA").tag, key_of("").tag}


def play(tree: Closure, event: EngineEvent) -> None:
    match event:
        case Stored():
            tree.store(event.hashes, event.parent, event.words, event.tier, event.salt)
        case Removed():
            tree.remove(event.hashes, event.tier)
        case Cleared():
            tree.clear()


def levels(tree: Closure) -> dict[int, Level]:
    return {value: Level(change.level) for change in tree.drain() for value in names_of(change)}
