"""Each criterion finds the one decision that was made for it."""

from kvplane.controlplane.decision_row import DecisionRow
from kvplane.controlplane.demo.drive import Answer
from kvplane.controlplane.demo.lessons import in_words, lessons
from kvplane.tests.controlplane.demo.made import answer, replica, row

# All but the first hold too much of their prompts to be new texts.
RUN: list[tuple[DecisionRow, Answer]] = [
    (row("new", replica("a", 64), replica("b")), answer("new", at=1)),
    (row("plain", replica("a", 500), replica("b"), cached=500), answer("plain", at=2, prompt="same", cached=500)),
    (row("saved", replica("a", 960), replica("b"), cached=960), answer("saved", at=3, cached=960)),
    (row("twin", replica("a"), replica("b")), answer("twin", "globex", at=4, prompt="same")),
    (row("passed", replica("a", 400, waiting=5000), replica("b")), answer("passed", at=5)),
    (row("tokens", replica("a", 640), replica("b"), cached=0), answer("tokens", at=6)),
    (row("time", replica("a", 500), replica("b"), cached=500, ttft_ms=4000), answer("time", at=7, cached=500)),
    (row("slow", replica("a", 500), replica("b"), cached=500), answer("slow", at=8, cached=500, ttft_ms=9000)),
]
ROWS = [made for made, _ in RUN]
ANSWERS = [asked for _, asked in RUN]


def ids(rows: list[DecisionRow], answers: list[Answer], count: int = 7) -> list[str]:
    return [lesson.told.row.id for lesson in lessons(rows, answers, count)]


def test_each_criterion_finds_its_decision() -> None:
    assert ids(ROWS, ANSWERS) == ["saved", "twin", "passed", "new", "tokens", "time", "slow"]


def test_five_are_told_the_first_criteria_first() -> None:
    assert ids(ROWS, ANSWERS, count=5) == ["saved", "twin", "passed", "new", "tokens"]


def test_the_order_of_rows_does_not_matter() -> None:
    assert ids(ROWS[::-1], ANSWERS[::-1]) == ids(ROWS, ANSWERS)


def test_no_decision_is_told_twice() -> None:
    found = ids(ROWS[:2], ANSWERS[:2])

    assert sorted(found) == ["new", "plain"]


def test_the_same_prompt_again_of_one_tenant_is_no_twin() -> None:
    again = answer("twin", "acme", at=4, prompt="same")

    titles = [lesson.title for lesson in lessons(ROWS, [*ANSWERS[:3], again, *ANSWERS[4:]], 7)]

    assert "One text, two tenants" not in titles


def test_an_answer_without_a_stored_decision_is_passed_by() -> None:
    assert ids([], ANSWERS) == []
    assert in_words(lessons([], ANSWERS)) == ""


def test_words_say_who_asked_what_and_why_it_is_told() -> None:
    text = in_words(lessons(ROWS, ANSWERS, 2))

    assert text.startswith("1. Most work saved\nacme asked question 2 about csv. No other request reused as many")
    assert "\n\n\n2. One text, two tenants\nglobex asked question 2 about csv." in text
    assert "adaptive chose a: longest prefix." in text
