"""The fixed work: users of two tenants who ask about documents, turn by turn, with pauses to read and think.

The sizes are those of a small documentation desk: a document has one reader or two, and a conversation of four turns
sends it four times, as chat clients do. All of it fits into any replica's cache, so nothing is won by eviction.
Both tenants use one product and so send one system prompt, and both open configparser with the same question: what
one of them computed must not be found by the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from .documents import excerpt

Message = dict[str, str]

SYSTEM_PROMPT = (
    "You are the documentation desk of a software company. A user shows you the beginning of a source file and asks "
    "questions about it. Answer from the file, in one short sentence, in plain words, and say so if it is not in there."
)
_READING: tuple[tuple[str, Sequence[str]], ...] = (  # who reads what, in order of arrival
    ("acme", ("configparser", "csv")),
    ("acme", ("socketserver", "timeit")),
    ("acme", ("csv", "argparse")),
    ("acme", ("unittest", "re")),
    ("globex", ("configparser", "statistics")),
    ("globex", ("statistics", "heapq")),
    ("globex", ("shelve", "fileinput")),
    ("globex", ("heapq", "wave")),
)
_QUESTIONS = (
    "What is this module for?",
    "Which class or function would I use first?",
    "Give me one small example of its use.",
    "What can go wrong when I use it?",
    "Does it keep state between calls?",
    "Which names does it export?",
    "How would I test code that uses it?",
    "Is there anything here that I should avoid?",
)
_TURNS = 4
_THINK_S = (1.0, 4.0)
_ARRIVE_EVERY_S = 1.0
_MAX_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, and the pause before it."""

    question: str
    think_s: float


@dataclass(frozen=True, slots=True)
class Conversation:
    """Questions about one document, each sent with all that was said before."""

    module: str
    turns: Sequence[Turn]

    def opening(self) -> list[Message]:
        """The system prompt, to which the document is added with the first question."""
        return [{"role": "system", "content": SYSTEM_PROMPT}]

    def ask(self, number: int) -> Message:
        """The user's message of a turn; the first carries the document ahead of the question."""
        question = self.turns[number].question
        shown = f"The beginning of {self.module}:\n\n{excerpt(self.module)}\n\n" if number == 0 else ""
        return {"role": "user", "content": f"{shown}{question}"}


@dataclass(frozen=True, slots=True)
class User:
    """One person at one tenant, one conversation after another."""

    tenant: str
    conversations: Sequence[Conversation]


@dataclass(frozen=True, slots=True)
class Workload:
    """All users, and how long an answer may get."""

    users: Sequence[User]
    max_tokens: int

    @property
    def requests(self) -> int:
        return sum(len(conversation.turns) for user in self.users for conversation in user.conversations)

    @property
    def tenants(self) -> Sequence[str]:
        return tuple(dict.fromkeys(user.tenant for user in self.users))


def fixed_workload() -> Workload:
    """The same on every machine and at every call."""
    chance = Random(2026)
    return Workload(tuple(_users(chance)), _MAX_TOKENS)


def _users(chance: Random) -> Iterator[User]:
    seats: dict[str, int] = {}
    for arrival, (tenant, modules) in enumerate(_READING):
        seat = seats[tenant] = seats.get(tenant, -1) + 1
        late_s = arrival * _ARRIVE_EVERY_S
        conversations = [
            _conversation(module, seat + 3 * nth, 0.0 if nth else late_s, chance) for nth, module in enumerate(modules)
        ]
        yield User(tenant, tuple(conversations))


def _conversation(module: str, first: int, late_s: float, chance: Random) -> Conversation:
    """Questions from the `first` on, round and round; the same seat of both tenants asks the same ones."""
    asked = [_QUESTIONS[(first + turn) % len(_QUESTIONS)] for turn in range(_TURNS)]
    pauses = [chance.uniform(*_THINK_S) for _ in asked]
    pauses[0] += late_s
    return Conversation(module, tuple(Turn(question, pause) for question, pause in zip(asked, pauses, strict=True)))
