"""The embedded store of decisions: one SQLite file of spans, written by every router here, queried by anyone."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import span_keys as keys
from .decision_row import DecisionRow, joined

__all__ = ["DecisionRow", "Decisions", "NoDecisions", "SpanRow", "SpanStore", "open_store"]

_BUSY_S = 10.0  # how long a writer waits for another process's

_SCHEMA = """
CREATE TABLE IF NOT EXISTS spans (
    id INTEGER PRIMARY KEY,
    decision_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    trace_id TEXT NOT NULL,
    span_id TEXT NOT NULL,
    parent_span_id TEXT,
    start_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL,
    tenant TEXT,
    replica TEXT,
    reason TEXT,
    cached_tokens INTEGER,
    attributes TEXT NOT NULL,
    UNIQUE (decision_id, kind)
);
CREATE INDEX IF NOT EXISTS spans_by_time ON spans (start_ns, kind, tenant, replica, reason, cached_tokens);
"""

# Told twice, a span stays as it was first told; but one that knows its parent replaces one that does not.
_INSERT = """
INSERT INTO spans (decision_id, kind, name, trace_id, span_id, parent_span_id, start_ns, end_ns,
                   tenant, replica, reason, cached_tokens, attributes)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (decision_id, kind) DO UPDATE SET
    name = excluded.name, trace_id = excluded.trace_id, span_id = excluded.span_id,
    parent_span_id = excluded.parent_span_id, start_ns = excluded.start_ns, end_ns = excluded.end_ns,
    cached_tokens = excluded.cached_tokens, attributes = excluded.attributes
WHERE spans.parent_span_id IS NULL AND excluded.parent_span_id IS NOT NULL
"""

_FIND = f"""
SELECT route.start_ns, route.end_ns, route.trace_id, route.span_id, route.parent_span_id,
       route.attributes, outcome.attributes
FROM spans AS route LEFT JOIN spans AS outcome
    ON outcome.decision_id = route.decision_id AND outcome.kind = '{keys.OUTCOME}'
WHERE route.kind = '{keys.ROUTE}' AND {{conditions}}
ORDER BY route.start_ns DESC, route.id DESC LIMIT ?
"""


class NoDecisions(Exception):
    """There is no store of decisions to query, or what is there cannot be read."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return f"no decisions in {self.path.absolute()}: {self.why}"


@dataclass(frozen=True, slots=True)
class SpanRow:
    """A finished span, ready to be stored."""

    kind: str
    name: str
    trace_id: str
    span_id: str
    parent_span_id: str | None
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]  # whatever OpenTelemetry lets an attribute be


class SpanStore:
    """The writing end. Several processes may write one file; each batch is one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def write(self, rows: Sequence[SpanRow]) -> None:
        with self._connection:
            self._connection.executemany(_INSERT, [_columns(row) for row in rows])

    def prune(self, before_ns: int, keep_rows: int) -> None:
        """Forget spans that began before a time, and all but about the last `keep_rows`."""
        with self._connection:
            self._connection.execute("DELETE FROM spans WHERE start_ns < ?", (before_ns,))
            self._connection.execute("DELETE FROM spans WHERE id <= (SELECT max(id) FROM spans) - ?", (keep_rows,))

    def close(self) -> None:
        self._connection.close()


def open_store(path: Path) -> SpanStore:
    """Open a file of spans for writing, from any one thread; it and its folder are made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.executescript(_SCHEMA)
    return SpanStore(connection)


class Decisions:
    """The reading end; opens the file for each query and never changes it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(
        self,
        last: int = 20,
        tenant: str | None = None,
        replica: str | None = None,
        reason: str | None = None,
        min_error: int | None = None,
        since: float | None = None,
        id: str | None = None,
    ) -> list[DecisionRow]:
        """Give the latest decisions that meet every condition, latest first. Raises `NoDecisions`.

        `reason` may be a part of one, `id` a beginning; `min_error` compares predicted with reported cached tokens,
        whichever is more; `since` is Unix time in seconds.
        """
        asked: dict[str, object] = {
            "route.tenant = ?": tenant,
            "route.replica = ?": replica,
            "instr(route.reason, ?)": reason,
            "abs(route.cached_tokens - outcome.cached_tokens) >= ?": min_error,
            "route.start_ns >= ?": None if since is None else int(since * 1e9),
            "route.decision_id GLOB ?": None if id is None else f"{id}*",
        }
        return [joined(*columns) for columns in self._select(asked, last)]

    def _select(self, asked: Mapping[str, object], last: int) -> list[tuple[Any, ...]]:
        conditions = {condition: value for condition, value in asked.items() if value is not None}
        query = _FIND.format(conditions=" AND ".join(conditions) or "TRUE")
        with self._reading() as connection:
            return connection.execute(query, (*conditions.values(), last)).fetchall()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        if not self._path.exists():
            raise NoDecisions(self._path, "there is no such file; has a router run with this state folder?")
        try:
            with closing(
                sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro", uri=True, timeout=_BUSY_S)
            ) as opened:
                yield opened
        except sqlite3.Error as exc:
            raise NoDecisions(self._path, str(exc)) from exc


def _columns(row: SpanRow) -> tuple[object, ...]:
    about = row.attributes
    cached = about.get(keys.ACTUAL_CACHED_TOKENS) if row.kind == keys.OUTCOME else _predicted(about)
    return (
        about[keys.DECISION_ID],
        row.kind,
        row.name,
        row.trace_id,
        row.span_id,
        row.parent_span_id,
        row.start_ns,
        row.end_ns,
        about.get(keys.TENANT),
        about.get(keys.CHOSEN_REPLICA),
        about.get(keys.REASON),
        cached,
        json.dumps(dict(about)),
    )


def _predicted(about: Mapping[str, Any]) -> object:
    return about[keys.PREDICTED_CACHED_TOKENS] if keys.CHOSEN_REPLICA in about else None
