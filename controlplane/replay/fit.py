"""A timing fitted to what was measured of a real engine, by least squares of the relative error."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from .timing import BadTiming, Floats, Links, Step

_LINKS = Links(cpu_us_per_token=5.0, disk_us_per_token=40.0)
_ROWS = 3  # of each kind, at least


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the file: a step that only prefilled `batch` prompts, or one that only decoded `batch` sequences."""

    kind: Literal["prefill", "decode"]
    ms: float
    new_tokens: int = 0  # of all prompts together
    cached_tokens: int = 0  # of all prompts together
    batch: int = 1
    context_tokens: int = 0  # of all sequences together


@dataclass(frozen=True, slots=True)
class Fitted:
    """Linear in its terms, none of them negative; what a step costs whatever it does is paid once."""

    base_ms: float  # prefill
    token_ms: float
    token_pair_ms: float  # two new tokens of one prompt
    cached_pair_ms: float  # a new and a cached token of one prompt
    decode_base_ms: float
    sequence_ms: float
    context_ms: float

    def step_ms(self, step: Step) -> float:
        prefill_ms = decode_ms = 0.0
        if step.prompts:
            share = step.new_tokens / step.prompts
            pairs_ms = share * (self.token_pair_ms * step.new_tokens + self.cached_pair_ms * step.cached_tokens)
            prefill_ms = self.base_ms + self.token_ms * step.new_tokens + pairs_ms
        if step.sequences:
            decode_ms = self._decode_ms(step.sequences) + self.context_ms * step.context_tokens
        both = step.prompts and step.sequences
        return prefill_ms + decode_ms - (min(self.base_ms, self.decode_base_ms) if both else 0.0)

    def decode_ms(self, sequences: int, context_tokens: Floats, capacity_tokens: int) -> Floats:
        decode_ms: Floats = self._decode_ms(sequences) + self.context_ms * context_tokens
        return decode_ms

    def fetch_ms(self, cpu_tokens: int, disk_tokens: int) -> float:
        return _LINKS.fetch_ms(cpu_tokens, disk_tokens)

    def _decode_ms(self, sequences: int) -> float:
        return self.decode_base_ms + self.sequence_ms * sequences


def timing_from_file(path: Path) -> Fitted:
    """Fit a file of `Measured` lines, JSON or CSV with a header. Raises `BadTiming` that says file and line."""
    rows = list(_rows(path))
    prefill = [row for row in rows if row.kind == "prefill"]
    decode = [row for row in rows if row.kind == "decode"]
    for kind, found in (("prefill", prefill), ("decode", decode)):
        if len(found) < _ROWS:
            raise BadTiming(f"{path}: wanted at least {_ROWS} lines of kind {kind}; got {len(found)}")
    return Fitted(
        *_least_squares([_prefill_terms(row) for row in prefill], [row.ms for row in prefill]),
        *_least_squares([(1.0, row.batch, row.context_tokens) for row in decode], [row.ms for row in decode]),
    )


def _prefill_terms(row: Measured) -> tuple[float, ...]:
    share = row.new_tokens / row.batch
    return 1.0, row.new_tokens, share * row.new_tokens, share * row.cached_tokens


def _least_squares(terms: Sequence[Sequence[float]], ms: Sequence[float]) -> list[float]:
    """Give the best coefficients of which none is negative: of few terms, every choice of them is tried."""
    measured = np.asarray(ms, np.float64)
    weighed = np.asarray(terms, np.float64) / measured[:, None]
    scale = np.maximum(np.abs(weighed).max(axis=0), 1e-300)
    columns = range(weighed.shape[1])
    best, least = np.zeros(len(columns)), float(len(measured))
    for chosen in chain.from_iterable(combinations(columns, size + 1) for size in columns):
        picked = list(chosen)
        found = np.linalg.lstsq(weighed[:, picked] / scale[picked], np.ones(len(measured)), rcond=None)[0]
        error = float(np.square(weighed[:, picked] / scale[picked] @ found - 1.0).sum())
        if (found >= 0.0).all() and error < least:
            best, least = np.zeros(len(columns)), error
            best[picked] = found / scale[picked]
    return [float(each) for each in best]


def _rows(path: Path) -> Iterator[Measured]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadTiming(f"{path}: wanted lines of JSON or CSV; {exc}") from exc
    as_json = bool(lines) and lines[0].lstrip().startswith("{")
    for number, fields in _json_fields(path, lines) if as_json else _csv_fields(lines):
        try:
            row = msgspec.convert(fields, Measured, strict=as_json)
        except msgspec.ValidationError as exc:
            raise BadTiming(f"{path}:{number}: {exc}; wanted {', '.join(Measured.__struct_fields__)}") from exc
        _check(row, f"{path}:{number}")
        yield row


def _json_fields(path: Path, lines: Sequence[str]) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as exc:
                raise BadTiming(f"{path}:{number}: wanted one JSON object a line; {exc}") from exc


def _csv_fields(lines: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    reader = csv.DictReader(lines, restkey="more fields than the header has", restval="")
    for row in reader:
        yield reader.line_num, {name: value for name, value in row.items() if value != ""}


def _check(row: Measured, where: str) -> None:
    if not 0.0 < row.ms < float("inf"):
        raise BadTiming(f"{where}: wanted milliseconds above 0; got ms {row.ms}")
    if row.batch < 1 or min(row.new_tokens, row.cached_tokens, row.context_tokens) < 0:
        raise BadTiming(f"{where}: wanted a batch of at least 1 and no negative tokens; got {row}")
    if row.kind == "prefill" and not row.new_tokens:
        raise BadTiming(f"{where}: wanted new_tokens of a prefill; got none")
