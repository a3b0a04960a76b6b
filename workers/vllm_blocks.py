"""How much of a prompt vLLM will find, by what it told of its blocks: it does not say so before the first token."""

from collections import Counter
from collections.abc import Iterator, Sequence

from .engine import BlockHash, Cleared, EngineEvent, EngineRequest, Removed, Stored

_Place = tuple[BlockHash | None, str, bytes]  # parent, the salt that begins here or "", the block's words


class KnownBlocks:
    """Blocks by their place: behind which one, under which salt, with which words. Copies are counted."""

    def __init__(self, block_tokens: int) -> None:
        self._size = block_tokens * 4
        self._hashes: dict[_Place, BlockHash] = {}
        self._places: dict[BlockHash, _Place] = {}
        self._copies = Counter[BlockHash]()

    def take(self, events: Sequence[EngineEvent]) -> None:
        """Follow the engine's events; only its own memory counts."""
        for event in events:
            match event:
                case Stored(tier="gpu"):
                    self._store(event)
                case Removed(tier="gpu"):
                    for engine_hash in event.hashes:
                        self._remove(engine_hash)
                case Cleared():
                    for known in (self._hashes, self._places, self._copies):
                        known.clear()

    def leading_tokens(self, request: EngineRequest) -> int:
        """Tokens at a prompt's start that are held; never the last one, which is always computed."""
        parent: BlockHash | None = None
        found = 0
        for salt, words in self._blocks(request):
            parent = self._hashes.get((parent, salt, words))
            if parent is None:
                break
            found += len(words) // 4
        return found

    def _blocks(self, request: EngineRequest) -> Iterator[tuple[str, bytes]]:
        public = request.public
        boundary = public.blocks if public else 0
        for block, start in enumerate(range(0, len(request.words) - self._size, self._size)):
            first = public.salt if public and not block else ""
            yield request.salt if block == boundary else first, request.words[start : start + self._size]

    def _store(self, event: Stored) -> None:
        parent, salt = event.parent, event.salt or ""
        for at, engine_hash in enumerate(event.hashes):
            place = (parent, salt, event.words[at * self._size : (at + 1) * self._size])
            self._hashes[place] = engine_hash
            self._places[engine_hash] = place
            self._copies[engine_hash] += 1
            parent, salt = engine_hash, ""

    def _remove(self, engine_hash: BlockHash) -> None:
        if engine_hash not in self._copies:
            return
        self._copies[engine_hash] -= 1
        if not self._copies[engine_hash]:
            del self._copies[engine_hash], self._hashes[self._places.pop(engine_hash)]
