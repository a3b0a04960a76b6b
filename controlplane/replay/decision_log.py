"""A recorded decision log as a trace: what `kvplane decisions --json` prints, an array or an object a line.

A log says how long prompts were and how much of each some replica held, not what was in them. So a prompt is taken to
begin like the one request that best explains what was held: of the same tenant and model, decided earlier, served by
the replica that held the most, and of all those with prompt and answer long enough the shortest (of equals the
latest): the turn before, where it is one conversation. It shares that request's ids as far as the hold was seen to
reach, in whole blocks; the rest of its ids are its own. What was held of a prompt that the log does not have is its
own too.

So no cache, whatever its size, finds more of a prompt than a replica held of it when it came. Reuse that was seen may
be missed: of answers, of prompts before the log, of what every replica had evicted. Who shares with whom is a guess
where several requests explain a hold equally well.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from ...policies import Candidate
from ..span_keys import DECLINED
from .trace import BadTrace, Ranges
from .trace_row import Entries, Row, Tokens, TokensOrNone, decoded

_Where = tuple[str, str, str]  # tenant, model, replica


def decision_rows(source: str, entries: Entries, block_tokens: int | None) -> Iterator[Row]:
    """The requests behind decisions by rising time, whatever order they come in. Raises `BadTrace`."""
    decoder = msgspec.json.Decoder(_Decision)
    decisions = [(line, decoded(source, line, entry, decoder)) for line, entry in entries]
    seen = [_seen(line, decision) for line, decision in decisions if decision.finish != DECLINED]  # it was made again
    served: defaultdict[_Where, _Served] = defaultdict(_Served)
    own = 0
    for order, each in enumerate(sorted(seen, key=lambda each: each.at_ns)):
        if block_tokens not in (None, each.block_tokens):
            raise BadTrace(source, each.line, f"wanted blocks of {block_tokens} tokens, got {each.block_tokens}")
        shared = _shared(each, served)
        missing = -(-each.prompt_tokens // each.block_tokens) - sum(count for _, count in shared)
        ranges = (*shared, (own, missing))
        own += missing
        if each.server is not None:
            served[each.at(each.server)].add(each, ranges, order)
        at_ms = each.at_ns / 1e6
        yield Row(each.line, at_ms, each.prompt_tokens, each.output_tokens, each.block_tokens, ranges, "", each.tenant)


class _Decision(msgspec.Struct):
    """Of a decision what a trace can say."""

    at_ns: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
    tenant: str
    model: str
    chosen: str | None
    prompt_tokens: Tokens
    max_tokens: TokensOrNone
    block_tokens: Tokens
    candidates: list[Candidate]
    served_by: str | None = None
    actual_cached_tokens: TokensOrNone | None = None
    output_tokens: TokensOrNone | None = None
    finish: str | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """One decision without its candidates, of which a log has many."""

    line: int
    at_ns: int
    tenant: str
    model: str
    prompt_tokens: int
    output_tokens: int
    block_tokens: int
    server: str | None
    held_blocks: int  # the most that a replica had of the prompt
    holders: tuple[str, ...]  # who had as many

    def at(self, replica: str) -> _Where:
        return self.tenant, self.model, replica


def _seen(line: int, decision: _Decision) -> _Seen:
    """An answer that was not reported counts as long as it could be, and one of no tokens as one."""
    tokens = {str(each.replica): each.cached_tokens for each in decision.candidates}
    if decision.served_by is not None and decision.actual_cached_tokens is not None:
        tokens[decision.served_by] = max(decision.actual_cached_tokens, tokens.get(decision.served_by, 0))
    size = decision.block_tokens
    limit = (decision.prompt_tokens - 1) // size
    blocks = {replica: min(held // size, limit) for replica, held in tokens.items()}
    most = max(blocks.values(), default=0)
    return _Seen(
        line,
        decision.at_ns,
        decision.tenant,
        decision.model,
        decision.prompt_tokens,
        max(1, decision.max_tokens if decision.output_tokens is None else decision.output_tokens),
        size,
        decision.served_by or decision.chosen,
        most,
        tuple(replica for replica, held in blocks.items() if held == most),
    )


@dataclass(slots=True)
class _Served:
    """What one replica served of one tenant and model."""

    by_size: list[tuple[int, int]] = field(default_factory=list)  # blocks with the answer, and the order negated
    prompts: dict[int, Ranges] = field(default_factory=dict)  # the ids of whole blocks, by the order negated

    def add(self, seen: _Seen, ranges: Ranges, order: int) -> None:
        insort(self.by_size, ((seen.prompt_tokens + seen.output_tokens) // seen.block_tokens, -order))
        self.prompts[-order] = _leading(ranges, seen.prompt_tokens // seen.block_tokens)

    def shortest(self, blocks: int) -> tuple[int, int] | None:
        """The shortest that has as many blocks, of equals the latest."""
        at = bisect_left(self.by_size, (blocks,))
        return self.by_size[at] if at < len(self.by_size) else None


def _shared(seen: _Seen, served: dict[_Where, _Served]) -> Ranges:
    """The ids it has in common with the request that best explains what was held of it."""
    found = []
    for holder in seen.holders if seen.held_blocks else ():
        theirs = served.get(seen.at(holder))
        if theirs is not None and (best := theirs.shortest(seen.held_blocks)) is not None:
            found.append((best, theirs.prompts))
    if not found:
        return ()
    (_, order), prompts = min(found, key=lambda each: each[0])
    return _leading(prompts[order], seen.held_blocks)


def _leading(ranges: Ranges, blocks: int) -> Ranges:
    """The first so many ids, or all there are."""
    leading = []
    for first, count in ranges:
        if blocks <= 0:
            break
        leading.append((first, min(count, blocks)))
        blocks -= count
    return tuple(leading)
