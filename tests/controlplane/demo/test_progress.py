"""How far a run has come, with and without a terminal."""

import io

from rich.console import Console

from kvplane.controlplane.demo.progress import progress


def test_without_a_terminal_a_quarter_gets_a_line() -> None:
    out = io.StringIO()

    with progress(Console(file=out, width=80), "requests answered", 10) as advance:
        for _ in range(10):
            advance()

    lines = out.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == [f"requests answered: {done} of 10" for done in (3, 5, 8, 10)]


def test_on_a_terminal_a_bar_ends_full() -> None:
    out = io.StringIO()

    with progress(Console(file=out, width=80, force_terminal=True), "requests answered", 2) as advance:
        advance()
        advance()

    assert "2/2" in out.getvalue()
