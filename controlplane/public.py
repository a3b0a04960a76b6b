"""Which requests begin with a public prefix: a system prompt whose cache their tenant shares with others."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..directory import Domain
from .accounts import Book, PublicPrefix
from .public_probing import Probing

log = logging.getLogger(__name__)

_WORD_BYTES = 4
_TURNS = ("a", "9", "\n")  # users may begin with anything: a tokenizer may join it to what stands before


class Renderer(Protocol):
    """Renders a conversation into words."""

    def chat(self, messages: Sequence[Mapping[str, str]]) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Lead:
    """The words that a public prefix comes to in one model, whole blocks of them."""

    domain: Domain
    words: bytes
    blocks: int


class PublicPrefixes:
    """One per router: the public prefixes of its book, in the words of its model.

    A prompt begins with one as a whole or not at all, so nobody learns a text block by block.
    """

    def __init__(self, tokens: Renderer, block_tokens: int, probing: Probing) -> None:
        self._tokens = tokens
        self._block_tokens = block_tokens
        self._probing = probing
        self._read: Mapping[str, PublicPrefix] = {}
        self._words: dict[str, bytes] = {}  # by text
        self._leads: Mapping[str, Sequence[Lead]] = {}  # by tenant, the longest first

    async def lead(self, book: Book, tenant: str, words: bytes, max_tokens: int) -> Lead | None:
        """The longest that a tenant's prompt begins with. Who comes first after a change waits until it is read."""
        if book.public is not self._read:
            await self._take_in(book.public)
        leads = self._leads.get(tenant, ())
        if not leads or self._probing.keeps_out(tenant):
            return None
        for lead in leads:
            if words.startswith(lead.words):
                return lead
        for lead in leads:
            if words.startswith(lead.words[: self._block_tokens * _WORD_BYTES]):
                self._probing.parted(tenant, lead.domain, _parts_at(words, lead.words), max_tokens)
        return None

    async def _take_in(self, prefixes: Mapping[str, PublicPrefix]) -> None:
        self._read = prefixes
        words: dict[str, bytes] = {}
        try:
            for prefix in prefixes.values():
                known = self._words.get(prefix.system)
                words[prefix.system] = await asyncio.to_thread(self._rendered, prefix) if known is None else known
        except asyncio.CancelledError:  # its client left; the next one begins anew
            if self._read is prefixes:
                self._read = {}
            raise
        if self._read is prefixes:  # else a later change was quicker
            self._words = words
            self._leads = _by_tenant(prefixes, words, self._block_tokens)

    def _rendered(self, prefix: PublicPrefix) -> bytes:
        """What all requests begin with that begin with a system message, whatever the user says."""
        system = {"role": "system", "content": prefix.system}
        try:
            rendered = [self._tokens.chat([system, {"role": "user", "content": turn}]) for turn in _TURNS]
        except Exception as exc:  # whatever the template makes of it, requests go on
            log.warning("public prefix %s is not shared here: %s", prefix.name, exc)
            return b""
        alike = _alike(rendered, self._block_tokens * _WORD_BYTES)
        if not alike:
            log.warning("public prefix %s is not shared here: it is no whole block", prefix.name)
        return alike


def _alike(prompts: Sequence[bytes], block_bytes: int) -> bytes:
    """The leading whole blocks that all prompts have."""
    first, end = prompts[0], 0
    while end + block_bytes <= len(first) and len({prompt[end : end + block_bytes] for prompt in prompts}) == 1:
        end += block_bytes
    return first[:end]


def _parts_at(words: bytes, lead: bytes) -> int:
    """The first word that is another, of a prompt that does not begin with the whole lead."""
    most = min(len(words), len(lead)) // _WORD_BYTES
    alike = np.frombuffer(words, "<u4", most) == np.frombuffer(lead, "<u4", most)
    return most if alike.all() else int(alike.argmin())


def _by_tenant(
    prefixes: Mapping[str, PublicPrefix], words: Mapping[str, bytes], block_tokens: int
) -> Mapping[str, Sequence[Lead]]:
    leads: dict[str, list[Lead]] = defaultdict(list)
    for prefix in prefixes.values():
        start = words[prefix.system]
        for tenant in prefix.tenants if start else ():
            leads[tenant].append(Lead(prefix.domain, start, len(start) // (block_tokens * _WORD_BYTES)))
    for each in leads.values():
        each.sort(key=lambda lead: (-lead.blocks, lead.domain.workspace))
    return leads
