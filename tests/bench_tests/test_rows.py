"""Rounds to rows, rows to a table."""

import io

import msgspec
import pytest
from rich.console import Console

from kvplane.tests.bench.rows import BARE, OURS, Round, Row, percentile, row_of, table_of


def row(target: str, p50_us: float, body_bytes: int = 2048, mode: str = "python") -> Row:
    return Row(target, body_bytes, 16, p50_us, 2 * p50_us, 100.0, mode)


def shown(*rows: Row) -> list[list[str]]:
    """The cells of the table, as it is printed in a terminal of 80 columns."""
    out = io.StringIO()
    Console(file=out, width=80).print(table_of(rows))
    lines = [line for line in out.getvalue().splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(100, 0, -1)]

    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile(values, 1) == 100
    assert percentile([7.0], 0.99) == 7


def test_a_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        percentile([], 0.5)


def test_one_disturbed_round_of_three_does_not_count() -> None:
    quiet, disturbed = Round([100.0, 110.0, 120.0], 1.0), Round([9000.0], 1.0)

    found = row_of("python", OURS, 2048, 1, [quiet, disturbed, quiet])

    assert (found.p50_us, found.p99_us, found.requests_per_s) == (110.0, 120.0, 3.0)


def test_json_rows_have_the_agreed_names() -> None:
    assert msgspec.json.decode(msgspec.json.encode(row(OURS, 1.0))) == {
        "target": "kvplane",
        "body_bytes": 2048,
        "concurrency": 16,
        "p50_us": 1.0,
        "p99_us": 2.0,
        "requests_per_s": 100.0,
        "mode": "python",
    }


def test_ours_is_compared_with_the_bare_row_of_its_own_mode_and_size() -> None:
    cells = shown(row(OURS, 3000), row(BARE, 2000), row(OURS, 9000, mode="haproxy"), row(BARE, 3000, mode="haproxy"))

    assert [line[-1] for line in cells] == ["1.50", "", "3.00", ""]


def test_a_row_without_its_bare_one_has_no_ratio() -> None:
    assert shown(row(OURS, 3000), row(BARE, 2000, body_bytes=65536))[0][-1] == ""


def test_no_cell_is_cut_on_a_terminal_of_eighty_columns() -> None:
    [cells] = shown(Row("kvplane", 65536, 16, 479430.0, 536730.0, 2000.0, "throughput"))

    assert cells == ["throughput", "64 KB", "16", "kvplane", "479.43", "536.73", "2000", ""]
