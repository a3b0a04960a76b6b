"""What is compared: an index of who holds what, filled with stretches and asked with prompts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .forest import Prompt, Stretch

Apply = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Look:
    """One way to ask. `ask` is what is measured; `right` tells afterwards whether an answer is the prompt's."""

    ask: Callable[[Sequence[Prompt]], Sequence[object]]
    right: Callable[[object, Prompt], bool]


class Index(Protocol):
    """Ours and each peer's. Messages are made beforehand; applying them is what is measured."""

    def store(self, stretches: Iterable[Stretch]) -> Apply: ...

    def remove(self, stretches: Iterable[Stretch]) -> Apply: ...

    def looks(self) -> Mapping[str, Look]:
        """The ways to ask, by the name they go by in the result."""
        ...

    def close(self) -> None: ...
