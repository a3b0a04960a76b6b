"""A trace from a file: this project's lines, Mooncake's own, or a decision log, told apart by what is in it."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import msgspec

from .decision_log import decision_rows
from .trace import BadTrace, Trace, TraceRequest
from .trace_lines import trace_lines
from .trace_row import Entries, Row, decoded, mooncake_rows, own_rows

_FORMS = {"hash_ranges": own_rows, "hash_ids": mooncake_rows, "candidates": decision_rows}  # a field only it has
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PROGRESS = 2048  # requests between two calls
_LONGEST_MS = 366 * 86_400_000.0
_LOG_BYTES = 1 << 30  # of a decision log that is one array


def read_trace(path: Path, *, block_tokens: int | None = None, progress: Callable[[int], None] | None = None) -> Trace:
    """Read a whole trace, its first request at 0. `progress` is told now and then how many requests have been read.

    Plain, gzip, xz or zstd. `block_tokens` says the size of Mooncake's blocks if that is not 512; for other forms it is
    what the file must have. Blocks without an id get one that nobody else has. Raises `BadTrace` for what does not fit,
    and for a file that is cut off.
    """
    if block_tokens is not None and block_tokens < 1:
        raise BadTrace(str(path), None, f"wanted block_tokens of at least 1, got {block_tokens}")
    entries = _entries(str(path), trace_lines(path))
    first = next(entries, None)
    if first is None:
        raise BadTrace(str(path), None, "wanted a request a line, got none: the file is empty")
    rows = _form(str(path), *first)(str(path), chain([first], entries), block_tokens)
    checked = list(_checked(str(path), rows, progress or _untold))
    return Trace(path.name.split(".")[0] or path.name, checked[0].block_tokens, _requests(checked))


def _entries(source: str, lines: Entries) -> Entries:
    """The objects of a file with the line each begins at: one a line, or those of one array."""
    entries = ((number, line) for number, line in lines if line and not line.isspace())
    first = next(entries, None)
    if first is None:
        return
    if first[1].lstrip().startswith(b"["):
        yield from _array(source, first, lines)
    else:
        yield from chain([first], entries)


def _array(source: str, first: tuple[int, bytes], lines: Entries) -> Entries:
    number, text = first[0], bytearray(first[1])
    for _, line in lines:
        text += b"\n"
        text += line
        if len(text) > _LOG_BYTES:
            raise BadTrace(source, None, f"wanted an array of at most {_LOG_BYTES} bytes: write an object a line")
    whole = bytes(text)
    try:
        parts = msgspec.json.decode(whole, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadTrace(source, number, f"wanted a whole JSON array of decisions: {exc}") from exc
    at = 0
    for part in parts:
        entry = bytes(part)
        found = whole.index(entry, at)
        number += whole.count(b"\n", at, found)
        yield number, entry
        number += entry.count(b"\n")
        at = found + len(entry)


def _form(source: str, line: int, entry: bytes) -> Callable[[str, Entries, int | None], Iterator[Row]]:
    fields = decoded(source, line, entry, _OBJECT)
    for field, rows in _FORMS.items():
        if field in fields:
            return rows
    came = ", ".join(list(fields)[:9]) or "none"
    raise BadTrace(source, line, f"wanted an object with one of the fields {', '.join(_FORMS)}; its fields: {came}")


def _checked(source: str, rows: Iterator[Row], progress: Callable[[int], None]) -> Iterator[Row]:
    """The rows, if time never runs backwards and all blocks are of one size."""
    first = before = None
    count = 0
    for count, row in enumerate(rows, 1):
        first = first or row
        if row.block_tokens != first.block_tokens:
            raise BadTrace(
                source, row.line, f"wanted blocks of {first.block_tokens} tokens throughout, got {row.block_tokens}"
            )
        if before is not None and row.at_ms < before.at_ms:
            raise BadTrace(
                source, row.line, f"wanted a time not before {before.at_ms:.15g} ms, got {row.at_ms:.15g} ms"
            )
        if row.at_ms - first.at_ms > _LONGEST_MS:
            raise BadTrace(source, row.line, f"wanted a trace of at most a year, got {row.at_ms:.15g} ms for a time")
        before = row
        if count % _PROGRESS == 0:
            progress(count)
        yield row
    progress(count)


def _requests(rows: Sequence[Row]) -> Sequence[TraceRequest]:
    """Requests from the first one's time on; blocks without an id get some above all that are taken."""
    own = max((first + count for row in rows for first, count in row.ranges), default=0)
    requests = []
    for row in rows:
        missing = -(-row.prompt_tokens // row.block_tokens) - sum(count for _, count in row.ranges)
        ranges = (*row.ranges, (own, missing)) if missing else row.ranges
        own += missing
        at_ms = row.at_ms - rows[0].at_ms
        requests.append(TraceRequest(at_ms, row.prompt_tokens, row.output_tokens, ranges, row.session, row.tenant))
    return requests


def _untold(_requests: int) -> None:
    pass
