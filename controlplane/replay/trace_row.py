"""One request as a line of a trace says it: this project's form, and Mooncake's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec

from .trace import BadTrace, Ranges, folded

MAX_TOKENS = 1 << 24  # of one prompt or answer; what is above is an error in the file
_MAX_ID = 1 << 62
_MOONCAKE_BLOCK_TOKENS = 512
_SHOWN = 160  # characters of what is wrong

Tokens = Annotated[int, msgspec.Meta(ge=1, le=MAX_TOKENS)]
TokensOrNone = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]
Entries = Iterator[tuple[int, bytes]]  # JSON objects, each with its line in the file
_T = TypeVar("_T")
_Ms = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]
_Id = Annotated[int, msgspec.Meta(ge=0, lt=_MAX_ID)]


@dataclass(frozen=True, slots=True)
class Row:
    """Its ranges may lack the last, partial block, or all of them: nobody else's prompt is known to have those."""

    line: int
    at_ms: float
    prompt_tokens: int
    output_tokens: int
    block_tokens: int
    ranges: Ranges
    session: str = ""
    tenant: str = "default"


def own_rows(source: str, entries: Entries, block_tokens: int | None) -> Iterator[Row]:
    """Rows of this project's form; blocks must be of `block_tokens`, if that is said. Raises `BadTrace`."""
    decoder = msgspec.json.Decoder(_OwnLine)
    return (decoded(source, line, entry, decoder).row(source, line, block_tokens) for line, entry in entries)


def mooncake_rows(source: str, entries: Entries, block_tokens: int | None) -> Iterator[Row]:
    """Rows of Mooncake's form (FAST'25), blocks of 512 tokens if nothing else is said. Raises `BadTrace`."""
    decoder = msgspec.json.Decoder(_MooncakeLine)
    size = block_tokens or _MOONCAKE_BLOCK_TOKENS
    return (decoded(source, line, entry, decoder).row(source, line, size) for line, entry in entries)


def decoded(source: str, line: int, entry: bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    """What a line says. Raises `BadTrace` where it says it wrongly or not to its end."""
    try:
        return decoder.decode(entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        shown = entry[:_SHOWN].decode(errors="replace").strip()
        raise BadTrace(source, line, f"{exc}; got {shown}{'…' if len(entry) > _SHOWN else ''}") from exc


class _OwnLine(msgspec.Struct):
    """Ids of blocks as ranges, [first, count]."""

    timestamp_ms: _Ms
    input_length: Tokens
    output_length: TokensOrNone
    block_size: Tokens
    hash_ranges: list[tuple[_Id, Tokens]]
    session_id: str = ""
    tenant: str = "default"

    def row(self, source: str, line: int, block_tokens: int | None) -> Row:
        if block_tokens not in (None, self.block_size):
            raise BadTrace(source, line, f"wanted blocks of {block_tokens} tokens, got {self.block_size}")
        blocks = sum(count for _, count in self.hash_ranges)
        _check_count(source, line, blocks, self.input_length, self.block_size)
        return Row(
            line,
            self.timestamp_ms,
            self.input_length,
            max(1, self.output_length),  # an engine computes one token before it can stop
            self.block_size,
            _distinct(source, line, _joined(self.hash_ranges)),
            self.session_id,
            self.tenant,
        )


class _MooncakeLine(msgspec.Struct):
    """Every id written out; the size of blocks is not said."""

    timestamp: _Ms
    input_length: Tokens
    output_length: TokensOrNone
    hash_ids: list[_Id]

    def row(self, source: str, line: int, block_tokens: int) -> Row:
        _check_count(source, line, len(self.hash_ids), self.input_length, block_tokens)
        ranges = _distinct(source, line, folded(self.hash_ids))
        return Row(line, self.timestamp, self.input_length, max(1, self.output_length), block_tokens, ranges)


def _check_count(source: str, line: int, blocks: int, prompt_tokens: int, block_tokens: int) -> None:
    """Ids must be as many as the prompt has blocks, or whole blocks, or none."""
    whole, all_of_them = prompt_tokens // block_tokens, -(-prompt_tokens // block_tokens)
    if blocks not in (0, whole, all_of_them):
        raise BadTrace(
            source,
            line,
            f"wanted {all_of_them} ids for {prompt_tokens} tokens in blocks of {block_tokens}, got {blocks}; "
            "is it another block size?",
        )


def _distinct(source: str, line: int, ranges: Ranges) -> Ranges:
    """The ranges, if none meets another: an id stands for a whole prefix, and a prompt has each once."""
    end = 0
    for first, count in sorted(ranges):
        if first < end:
            raise BadTrace(source, line, f"wanted each id once in a prompt, got {first} again")
        end = first + count
    return ranges


def _joined(ranges: Sequence[tuple[int, int]]) -> Ranges:
    """Ranges in their order, those that continue one another as one."""
    joined: list[tuple[int, int]] = []
    for first, count in ranges:
        if joined and sum(joined[-1]) == first:
            joined[-1] = (joined[-1][0], joined[-1][1] + count)
        else:
            joined.append((first, count))
    return tuple(joined)
