"""Dynamo's RadixTree, with the hashing of the prompt that it needs; in the optional ai-dynamo-runtime."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from dynamo.llm import RadixTree, compute_block_hash_for_seq

from .forest import BLOCK_TOKENS, Prompt, Stretch
from .index import Apply, Look
from .peers import TREE


class DynamoTree:
    """Fed with its own JSON events, one a replica and stretch. Replicas are worker ids."""

    def __init__(self) -> None:
        self._tree = RadixTree()
        self._events = 0

    def store(self, stretches: Iterable[Stretch]) -> Apply:
        return partial(self._apply, [(one.replicas, self._event(_stored(one))) for one in stretches])

    def remove(self, stretches: Iterable[Stretch]) -> Apply:
        """A block an event, deepest first, as vLLM tells of what it evicts."""
        removed = [(one.replicas, name) for one in reversed(list(stretches)) for name in reversed(one.names)]
        events = [(replicas, self._event({"removed": {"block_hashes": [name]}})) for replicas, name in removed]
        return partial(self._apply, events)

    def looks(self) -> Mapping[str, Look]:
        return {TREE: Look(self._ask, _right)}

    def close(self) -> None:
        """It ends with its last reference."""

    def _event(self, data: Mapping[str, Any]) -> bytes:  # Any: JSON
        self._events += 1
        return msgspec.json.encode({"event_id": self._events, "data": data, "dp_rank": 0})

    def _apply(self, events: Sequence[tuple[Sequence[int], bytes]]) -> None:
        apply_event = self._tree.apply_event
        for replicas, event in events:
            for replica in replicas:
                apply_event(replica, event)

    def _ask(self, prompts: Sequence[Prompt]) -> Sequence[object]:
        find = self._tree.find_matches
        return [find(compute_block_hash_for_seq(prompt.token_ids, BLOCK_TOKENS)).scores for prompt in prompts]


def _stored(stretch: Stretch) -> Mapping[str, Any]:  # Any: JSON
    tokens = list(memoryview(stretch.words).cast("I"))
    hashes = compute_block_hash_for_seq(tokens, BLOCK_TOKENS)
    pairs = zip(stretch.names, hashes, strict=True)
    blocks = [{"block_hash": name, "tokens_hash": tokens_hash} for name, tokens_hash in pairs]
    return {"stored": {"parent_hash": stretch.parent, "blocks": blocks}}


def _right(answer: object, prompt: Prompt) -> bool:
    return answer == {(replica, 0): blocks for replica, blocks in prompt.extents.items()}
