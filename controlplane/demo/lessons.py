"""The decisions of a run that teach most, each found by a stated criterion and told in words."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..decision_row import DecisionRow
from ..explain import explain
from .drive import Answer

_NEW_SHARE = 0.25  # a prompt of which nobody holds more is new to all; only its system prompt is not


@dataclass(frozen=True, slots=True)
class Told:
    """A stored decision, and the client's side of it."""

    answer: Answer
    row: DecisionRow
    twin: str | None  # another tenant that had sent the same prompt before

    @property
    def best_held(self) -> int:
        """The most prompt tokens that any candidate held."""
        return max((each.cached_tokens for each in self.row.candidates), default=0)

    @property
    def passed_over(self) -> int:
        """How many more of them the best holder had than the chosen replica."""
        return self.best_held - self.row.predicted_cached_tokens

    @property
    def ttft_error_ms(self) -> float:
        if self.row.predicted_ttft_ms is None or self.row.actual_ttft_ms is None:
            return 0.0
        return abs(self.row.predicted_ttft_ms - self.row.actual_ttft_ms)


@dataclass(frozen=True, slots=True)
class Lesson:
    """Why one decision is worth reading."""

    title: str
    why: str
    told: Told


_Find = Callable[[Sequence[Told]], Told | None]


def lessons(rows: Sequence[DecisionRow], answers: Sequence[Answer], count: int = 5) -> Sequence[Lesson]:
    """Find up to `count` different decisions: one for each criterion that any meets, in order."""
    left = list(_join(rows, answers))
    found: list[Lesson] = []
    for title, why, find in _CRITERIA:
        told = find(left)
        if told is not None and len(found) < count:
            left.remove(told)
            found.append(Lesson(title, why, told))
    return found


def in_words(found: Sequence[Lesson]) -> str:
    """Tell them one after another."""
    return "\n\n\n".join(
        f"{number}. {lesson.title}\n"
        f"{lesson.told.answer.tenant} asked question {lesson.told.answer.turn + 1} about {lesson.told.answer.module}. "
        f"{lesson.why}\n\n{explain(lesson.told.row)}"
        for number, lesson in enumerate(found, 1)
    )


def _join(rows: Sequence[DecisionRow], answers: Sequence[Answer]) -> Iterator[Told]:
    """In the order asked."""
    by_id = {row.id: row for row in rows}
    first_by: dict[str, str] = {}
    for answer in sorted(answers, key=lambda answer: answer.asked_at):
        first = first_by.setdefault(answer.prompt, answer.tenant)
        if answer.completion.decision in by_id:
            yield Told(answer, by_id[answer.completion.decision], None if first == answer.tenant else first)


def _most_saved(left: Sequence[Told]) -> Told | None:
    return max(left, key=lambda told: told.answer.completion.cached_tokens, default=None)


def _twin(left: Sequence[Told]) -> Told | None:
    return next((told for told in left if told.twin), None)


def _shorter_wait(left: Sequence[Told]) -> Told | None:
    passed = [told for told in left if told.row.chosen is not None and told.passed_over > 0]
    return max(passed, key=lambda told: told.passed_over, default=None)


def _new_text(left: Sequence[Told]) -> Told | None:
    """The last one: by then the replicas are busy with other texts."""
    new = [told for told in left if told.best_held <= _NEW_SHARE * told.row.prompt_tokens]
    return new[-1] if new else None


def _wrong_tokens(left: Sequence[Told]) -> Told | None:
    wrong = [told for told in left if told.row.prediction_error]
    return max(wrong, key=lambda told: abs(told.row.prediction_error or 0), default=None)


def _wrong_time(left: Sequence[Told]) -> Told | None:
    return max(left, key=lambda told: told.ttft_error_ms, default=None)


def _slowest(left: Sequence[Told]) -> Told | None:
    return max(left, key=lambda told: told.answer.completion.ttft_ms, default=None)


_CRITERIA: Sequence[tuple[str, str, _Find]] = (
    ("Most work saved", "No other request reused as many tokens as this one.", _most_saved),
    (
        "One text, two tenants",
        "The other tenant had sent this very prompt before. What that computed is kept under the other tenant's salt: "
        "it is neither seen nor reused here.",
        _twin,
    ),
    (
        "A longer prefix passed over",
        "Another replica held more of this prompt, yet to wait for it would have cost more than to compute here.",
        _shorter_wait,
    ),
    (
        "A text new to everyone",
        "No replica held its document, so it went where it could begin soonest, and the document lives there since.",
        _new_text,
    ),
    (
        "Furthest from its prediction, in tokens",
        "The directory said one number of cached tokens, the engine found another.",
        _wrong_tokens,
    ),
    (
        "Furthest from its prediction, in time",
        "No other first token came as far from when it was expected.",
        _wrong_time,
    ),
    ("Slowest first token", "Nobody waited longer than here.", _slowest),
)
