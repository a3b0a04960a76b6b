"""The candidates of a decision as JSON: a list for each of their fields, a third as long as an object for each."""

from collections.abc import Sequence

import msgspec

from ..policies import Candidate
from ..policies.field import COLUMNS, Field

_Recorded = dict[str, list[object]] | tuple[Candidate, ...]


def encoded(candidates: Sequence[Candidate]) -> str:
    """Lists by field, in the order of replica ids."""
    field = Field.of(candidates)
    columns = dict(zip(COLUMNS, field.numbers.tolist(), strict=True))
    flags = {"known": field.known.tolist(), "fresh": field.fresh.tolist()}
    return msgspec.json.encode({"replica": field.replicas, **columns, **flags}).decode()


def decoded(recorded: str) -> tuple[Candidate, ...]:
    """Read lists by field, or an object for each candidate; what neither tells of has its default.

    Raises `msgspec.ValidationError`.
    """
    told = msgspec.json.decode(recorded, type=_Recorded)
    if isinstance(told, tuple):
        return told
    rows = [dict(zip(told, row, strict=True)) for row in zip(*told.values(), strict=True)]
    return msgspec.convert(rows, tuple[Candidate, ...])
