"""A small world of prompts that share prefixes, and the events that an engine may tell of their blocks."""

import struct
from dataclasses import dataclass
from functools import cached_property
from random import Random

from kvplane.directory import DomainKey, Prefix, Segment, domain_key
from kvplane.workers.engine import Cleared, EngineEvent, Removed, Stored, Tier

BLOCK_TOKENS = 4
SALTS = ("ab" * 32, "cd" * 32)
TIERS: tuple[Tier, ...] = ("gpu", "cpu", "disk")


@dataclass(frozen=True)
class Prompt:
    """A prompt whose last block holds one token more, so that all blocks before it can be reused."""

    words: bytes
    salt: str

    @cached_property
    def prefix(self) -> Prefix:
        return Prefix(self.words, BLOCK_TOKENS, [Segment(key_of(self.salt), 1 << 30)])


class Tree:
    """Blocks that stand behind one another. Their engine hashes are their numbers.

    Some have a twin: another hash with the same words behind the same parent, as adapters and images bring about.
    """

    def __init__(self, seed: int, blocks: int, twins: float = 0.1) -> None:
        chance = Random(seed)
        self.parents: list[int | None] = []
        self._words: list[bytes] = []
        self._salts: list[str] = []
        for number in range(blocks):
            parent = chance.randrange(max(0, number - 8), number) if number > 1 else None
            twin = number > 4 and chance.random() < twins
            if twin:
                parent = self.parents[number - 1]
            self.parents.append(parent)
            self._words.append(
                self._words[number - 1] if twin else struct.pack("<4I", number, *chance.choices(range(9), k=3))
            )
            self._salts.append(SALTS[number % 2] if parent is None else self._salts[parent])
        inner = set(self.parents)
        self.ends = [number for number in range(blocks) if number not in inner]
        self.prompts = [self._prompt(number) for number in self.ends]
        self.prompts.append(Prompt(self.prompts[0].words, SALTS[self.prompts[0].salt == SALTS[0]]))
        self.prompts.append(Prompt(self.prompts[-2].words[:-4], self.prompts[-2].salt))

    def stored(self, number: int, run: int, tier: Tier = "gpu") -> Stored:
        """The storing of up to `run` blocks that end with a number."""
        path = self.path(number)[-run:]
        parent = self.parents[path[0]]
        words = b"".join(self._words[block] for block in path)
        return Stored(tuple(path), parent, words, tier, self._salts[number] if parent is None else None)

    def random_event(self, chance: Random) -> EngineEvent:
        """Anything, in no sensible order: children before parents, copies of copies, removals of what is not there."""
        dice = chance.random()
        tier = chance.choices(TIERS, (6, 2, 1))[0]
        if dice < 0.55:
            return self.stored(chance.randrange(len(self.parents)), chance.randrange(1, 7), tier)
        if dice < 0.999:
            return Removed(tuple(chance.choices(range(len(self.parents)), k=chance.randrange(1, 8))), tier)
        return Cleared()

    def path(self, number: int) -> list[int]:
        """The blocks from a prompt's first to a number."""
        path, block = [number], self.parents[number]
        while block is not None:
            path.append(block)
            block = self.parents[block]
        return path[::-1]

    def _prompt(self, number: int) -> Prompt:
        words = b"".join(self._words[block] for block in self.path(number))
        return Prompt(words + b"last", self._salts[number])


def key_of(salt: str) -> DomainKey:
    return _KEYS[salt]


_KEYS = {salt: domain_key(salt, "model", "", BLOCK_TOKENS) for salt in SALTS}
