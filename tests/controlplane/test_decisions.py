"""The store of decisions, on real SQLite files."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from kvplane.controlplane import span_keys as keys
from kvplane.controlplane.decisions import Decisions, NoDecisions, SpanRow, open_store

SECOND = 1_000_000_000


def route(id: str, at_s: int = 100, replica: str | None = "r1", **changed: object) -> SpanRow:
    about: dict[str, object] = {
        keys.DECISION_ID: id,
        keys.TENANT: "acme/docs",
        keys.MODEL: "m",
        keys.ROUTER: "router-1",
        keys.POLICY: "round_robin",
        keys.REASON: "next in turn",
        keys.INPUT_TOKENS: 100,
        keys.MAX_TOKENS: 10,
        keys.BLOCK_TOKENS: 16,
        keys.PREDICTED_CACHED_TOKENS: 64,
        keys.DIRECTORY_AGE_MS: 5.0,
        keys.FEATURES: json.dumps([{"replica": "r1", "gpu_tokens": 64, "cpu_tokens": 64, "disk_tokens": 64}]),
        keys.SCORES: '{"r1":0.0}',
        keys.BASIS: '{"start":0.0}',
    }
    if replica:
        about[keys.CHOSEN_REPLICA] = replica
    about |= {getattr(keys, name.upper()): value for name, value in changed.items()}
    return SpanRow(keys.ROUTE, "route m", "ab" * 16, id, "cd" * 8, at_s * SECOND, at_s * SECOND + 200_000, about)


def outcome(id: str, cached: int, parent: str | None = "parent", at_s: int = 101) -> SpanRow:
    about = {keys.DECISION_ID: id, keys.ACTUAL_CACHED_TOKENS: cached, keys.ACTUAL_TTFT_MS: 30.5, keys.FINISH: "stop"}
    return SpanRow(keys.OUTCOME, keys.OUTCOME, "ab" * 16, f"{id}-o", parent, at_s * SECOND, at_s * SECOND, about)


def filled(path: Path, *rows: SpanRow) -> Decisions:
    store = open_store(path)
    store.write(rows)
    store.close()
    return Decisions(path)


def ids(decisions: Decisions, **asked: object) -> list[str]:
    return [row.id for row in decisions.find(**asked)]  # type: ignore[arg-type]


def test_a_decision_is_found_with_its_outcome_joined_on(tmp_path: Path) -> None:
    [row] = filled(tmp_path / "d.sqlite", outcome("aa", 48), route("aa")).find()

    assert (row.id, row.at_ns, row.took_us, row.chosen) == ("aa", 100 * SECOND, 200.0, "r1")
    assert (row.trace_id, row.span_id, row.parent_span_id) == ("ab" * 16, "aa", "cd" * 8)
    assert (row.actual_cached_tokens, row.actual_ttft_ms, row.finish) == (48, 30.5, "stop")
    assert row.prediction_error == 16
    assert row.candidates[0].cached_tokens == 64
    assert json.loads(json.dumps(row.to_json()))["prediction_error"] == 16


def test_a_decision_without_an_outcome_is_found_as_well(tmp_path: Path) -> None:
    [row] = filled(tmp_path / "d.sqlite", route("aa")).find()

    assert (row.finish, row.actual_cached_tokens, row.prediction_error) == (None, None, None)


def test_the_latest_come_first_and_only_as_many_as_asked(tmp_path: Path) -> None:
    decisions = filled(tmp_path / "d.sqlite", *(route(f"{number:02}", at_s=number) for number in range(30)))

    assert len(ids(decisions)) == 20
    assert ids(decisions, last=2) == ["29", "28"]


def test_every_filter_narrows(tmp_path: Path) -> None:
    decisions = filled(
        tmp_path / "d.sqlite",
        route("aa1", at_s=10, tenant="acme/docs"),
        route("aa2", at_s=20, tenant="other/lab", reason="longest prefix"),
        route("bb1", at_s=30, replica="r2"),
        route("bb2", at_s=40, replica=None, reason="no replica is known"),
        outcome("aa1", 64),
        outcome("aa2", 0),
        outcome("bb1", 128),
        outcome("bb2", 0),
    )

    assert ids(decisions, tenant="other/lab") == ["aa2"]
    assert ids(decisions, replica="r2") == ["bb1"]
    assert ids(decisions, reason="prefix") == ["aa2"]
    assert ids(decisions, min_error=64) == ["bb1", "aa2"]
    assert ids(decisions, min_error=0) == ["bb1", "aa2", "aa1"]
    assert ids(decisions, since=20.0) == ["bb2", "bb1", "aa2"]
    assert ids(decisions, id="aa") == ["aa2", "aa1"]
    assert ids(decisions, id="aa1", tenant="other/lab") == []


def test_a_value_to_filter_by_is_never_read_as_sql(tmp_path: Path) -> None:
    assert ids(filled(tmp_path / "d.sqlite", route("aa")), tenant="' OR 1=1 --") == []


def test_an_outcome_told_twice_counts_once_and_the_one_under_a_parent_stays(tmp_path: Path) -> None:
    decisions = filled(
        tmp_path / "d.sqlite",
        route("aa"),
        outcome("aa", 1, parent=None),
        outcome("aa", 2),
        outcome("aa", 3, parent=None),
        outcome("aa", 4),
    )

    assert [row.actual_cached_tokens for row in decisions.find()] == [2]


def test_old_spans_and_those_past_the_limit_are_forgotten(tmp_path: Path) -> None:
    store = open_store(tmp_path / "d.sqlite")
    store.write([route(f"{number:02}", at_s=number) for number in range(10)])
    store.prune(before_ns=3 * SECOND, keep_rows=100)
    after_age = len(ids(Decisions(tmp_path / "d.sqlite")))
    store.prune(before_ns=0, keep_rows=4)
    store.close()

    assert after_age == 7
    assert ids(Decisions(tmp_path / "d.sqlite")) == ["09", "08", "07", "06"]


def test_a_reader_sees_what_a_writer_that_is_still_open_wrote(tmp_path: Path) -> None:
    store = open_store(tmp_path / "state" / "d.sqlite")
    store.write([route("aa")])

    assert ids(Decisions(tmp_path / "state" / "d.sqlite")) == ["aa"]
    store.close()


def test_several_processes_write_one_file_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "d.sqlite"
    program = """
import sys, pathlib
from kvplane.controlplane.decisions import open_store, SpanRow
store = open_store(pathlib.Path(sys.argv[1]))
for n in range(100):
    about = {"kvplane.decision_id": f"{sys.argv[2]}-{n}"}
    about["kvplane.actual_cached_tokens"] = n
    store.write([SpanRow("outcome", "outcome", "t", "s", None, n, n, about)])
    store.prune(0, 10_000)
store.close()
"""
    writers = [subprocess.Popen([sys.executable, "-c", program, str(path), str(number)]) for number in range(4)]

    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0, 0]

    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*), count(DISTINCT decision_id) FROM spans").fetchone() == (400, 400)
    connection.close()


def test_a_missing_file_is_an_error_that_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(NoDecisions, match=str(tmp_path / "d.sqlite")):
        Decisions(tmp_path / "d.sqlite").find()


def test_a_file_that_is_no_store_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "d.sqlite").write_text("not a database, but long enough to have a header" * 100)

    with pytest.raises(NoDecisions, match="not a database"):
        Decisions(tmp_path / "d.sqlite").find()
