"""`kvplane directory find`, as a router tells it: who can reuse how much of one prompt, for whom, and where it is."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ..directory import DomainKey, HolderId, Holdings, Prefix, Segment
from ..workers import Capacity
from .errors import BadRequest
from .openai import Chat, Completion, Message
from .prompt import room, words_of
from .tokens import Tokens

Row = dict[str, Any]  # Any: plain values, as JSON has them


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A prompt as text, as one user message, or as token ids; of one tenant, or of whoever has it."""

    text: str | None = None
    chat: bool = False  # render the text through the model's template
    tokens: tuple[int, ...] | None = None
    tenant: str | None = None  # organisation/workspace


@dataclass(frozen=True, slots=True)
class Finder:
    """What a look-up needs of a router. `keys`: of each tenant by its label."""

    tokens: Tokens
    capacity: Capacity
    holdings: Holdings
    live: Collection[HolderId]
    keys: Mapping[str, DomainKey]

    async def find(self, query: Query) -> Row:
        """Each holder's extents, deepest first; levels include nearer ones. Raises `BadRequest`."""
        keys = self._keys(query.tenant)
        words = await words_of(self._asking(query), self.tokens, self.capacity)
        room(words, self.capacity)
        bare = Prefix(words, self.capacity.block_tokens, ())
        rows = []
        for tenant, key in keys.items():
            overlap = self.holdings.find(replace(bare, segments=(Segment(key, len(words)),)))
            rows += [self._row(tenant, holder, extents) for holder, extents in overlap.table().items()]
        rows.sort(key=lambda row: (-row["disk_blocks"], -row["cpu_blocks"], -row["gpu_blocks"], row["replica"]))
        return {
            "prompt_tokens": len(words) // 4,
            "prompt_blocks": bare.blocks,
            "block_tokens": bare.block_tokens,
            "tenants": list(keys),
            "holders": rows,
        }

    def _keys(self, tenant: str | None) -> Mapping[str, DomainKey]:
        if tenant is None:
            return self.keys
        if tenant not in self.keys:
            known = ", ".join(sorted(self.keys)[:20])
            raise BadRequest(f"tenant {tenant!r} is not known here; a tenant is organisation/workspace, one of {known}")
        return {tenant: self.keys[tenant]}

    def _asking(self, query: Query) -> Chat | Completion:
        if (query.text is None) == (query.tokens is None):
            raise BadRequest("a prompt comes as text or as token ids; give one of them")
        if query.tokens is not None:
            if query.chat:
                raise BadRequest("token ids are what the template made already; chat goes with text")
            return Completion(model="", prompt=query.tokens)
        text = query.text or ""
        if not text:
            raise BadRequest("the prompt is empty; at least one token is needed")
        return Chat(model="", messages=(Message("user", text),)) if query.chat else Completion(model="", prompt=text)

    def _row(self, tenant: str, holder: HolderId, extents: tuple[int, int, int]) -> Row:
        row: Row = {"replica": holder, "tenant": tenant, "live": holder in self.live}
        for level, blocks in zip(("gpu", "cpu", "disk"), extents, strict=True):
            row |= {f"{level}_blocks": blocks, f"{level}_tokens": blocks * self.capacity.block_tokens}
        return row
