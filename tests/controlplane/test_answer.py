"""Text leaves as soon as it cannot be the beginning of a stop string, and nothing of a stop string leaves."""

from collections.abc import AsyncGenerator
from typing import cast

from kvplane.controlplane.answer import Piece, pieces
from kvplane.controlplane.decision import Decision
from kvplane.controlplane.router_half import Answering
from kvplane.controlplane.tokens import Detokenizer
from kvplane.workers import Delta


class Letters:
    """A detokenizer whose token ids are code points."""

    def push(self, token_ids: tuple[int, ...]) -> str:
        return "".join(map(chr, token_ids))


class Source:
    """Deltas of one letter each, and whether they were closed early."""

    def __init__(self, text: str, finish: str = "length") -> None:
        self._deltas = [delta(letter) for letter in text[:-1]] + [delta(text[-1], finish)]
        self.closed = False
        self.stopped = False

    def answering(self) -> Answering:
        return Answering(cast(Decision, None), self._deltas[0], self._rest(), self._close, self._stop)

    async def _rest(self) -> AsyncGenerator[Delta, None]:
        for item in self._deltas[1:]:
            yield item

    async def _close(self) -> None:
        self.closed = True

    async def _stop(self) -> None:
        self.stopped = True


def delta(letter: str, finish: str | None = None) -> Delta:
    return Delta((ord(letter),), cached_tokens=32, queue_ms=1, prefill_ms=2, finish=finish)  # type: ignore[arg-type]


def text_of(source: Source, *stops: str) -> AsyncGenerator[Piece, None]:
    return pieces(source.answering(), 40, cast(Detokenizer, Letters()), stops)


async def read(source: Source, *stops: str) -> list[Piece]:
    return [piece async for piece in text_of(source, *stops)]


async def test_without_stops_every_token_leaves_at_once() -> None:
    read_pieces = await read(Source("abc"))

    assert [piece.text for piece in read_pieces] == ["a", "b", "c"]
    assert read_pieces[-1].finish == "length"
    assert read_pieces[-1].usage.completion == 3
    assert read_pieces[-1].usage.cached == 32


async def test_a_stop_string_ends_the_answer_before_it_and_the_generation_with_it() -> None:
    source = Source("one END two")
    read_pieces = await read(source, "END")

    assert "".join(piece.text for piece in read_pieces) == "one "
    assert read_pieces[-1].finish == "stop"
    assert source.closed


async def test_what_only_looked_like_a_stop_is_given_back() -> None:
    read_pieces = await read(Source("an EN."), "END")

    assert "".join(piece.text for piece in read_pieces) == "an EN."


async def test_the_earliest_of_several_stops_wins() -> None:
    read_pieces = await read(Source("abcd"), "d", "bc")

    assert "".join(piece.text for piece in read_pieces) == "a"


async def test_an_unfinished_stop_at_the_end_is_text() -> None:
    read_pieces = await read(Source("abEN"), "END")

    assert "".join(piece.text for piece in read_pieces) == "abEN"
    assert read_pieces[-1].finish == "length"


async def test_an_answer_that_a_stop_string_ends_is_billed_before_its_end_is_told() -> None:
    source = Source("abc")
    told = [(piece.text, piece.finish, source.stopped) async for piece in text_of(source, "b")]

    assert told == [("a", None, False), ("", "stop", True)]


async def test_an_answer_that_its_replica_ended_is_not_billed_again() -> None:
    source = Source("abc")
    await read(source, "d")

    assert source.closed
    assert not source.stopped
