"""What a policy believes of its candidates: impossible numbers are set aside, unread pages are guessed."""

from collections.abc import Sequence

import numpy as np

from .contract import Candidate, RoutedRequest
from .field import Field, Floats, Ints

SEQUENCE_TOKENS = 16.0  # a running sequence delays a newcomer about as much as this many waiting prompt tokens
_COUNTS_BELOW = 1 << 48  # no honest count of tokens, blocks or sequences comes near
_CHECKED = 10  # columns; the last, what is expected, only explains


def credible(candidates: Sequence[Candidate]) -> Field:
    """Give the candidates whose numbers can be true, by replica id.

    Those that are silent stand in with the average load of those that are not, those not known without a prefix as
    well. Where no numbers can be true, every candidate stays, with none. Raises ValueError for no candidates at all.
    """
    field = Field.of(candidates)
    if not len(field):
        raise ValueError("a policy chooses from at least one candidate; got none")
    if field.numbers[:_CHECKED].view(np.uint64).max() >= _COUNTS_BELOW:  # a negative number is a huge one here
        possible = (field.numbers[:_CHECKED].view(np.uint64) < _COUNTS_BELOW).all(axis=0)
        if not possible.any():
            nothing = np.zeros(len(field), np.bool_)
            return Field(field.replicas, np.zeros_like(field.numbers), nothing, ~nothing)
        field = field.at(np.flatnonzero(possible))
    heard = field.known & field.fresh
    return field if heard.all() else _guessed(field, heard)


def credible_request(request: RoutedRequest) -> RoutedRequest:
    """Read a size that cannot be true as the smallest one."""
    prompt, output, block = request.prompt_tokens, request.max_tokens, request.block_tokens
    if 1 <= prompt < _COUNTS_BELOW and 0 <= output < _COUNTS_BELOW and 1 <= block < _COUNTS_BELOW:
        return request
    return RoutedRequest(
        prompt if 1 <= prompt < _COUNTS_BELOW else 1,
        output if 0 <= output < _COUNTS_BELOW else 0,
        block if 1 <= block < _COUNTS_BELOW else 1,
    )


def load_tokens(field: Field) -> Floats:
    """Say how busy replicas are, in prompt tokens: those waiting, and their sequences at `SEQUENCE_TOKENS` each."""
    sequences = np.maximum(field.running_sequences, field.ongoing)
    return field.waiting_prefill_tokens + SEQUENCE_TOKENS * sequences


def cached_tokens(request: RoutedRequest, field: Field) -> Ints:
    """Count the prompt tokens that replicas can reuse; the last one is always computed."""
    held: Ints = np.minimum(field.numbers[:3].max(axis=0), request.prompt_tokens - 1)
    return held if field.known.all() else held * field.known


def _guessed(field: Field, heard: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> Field:
    """A silent page's load is old, yet what this router has sent there since is not."""
    numbers, silent = field.numbers.copy(), ~heard
    share = max(int(heard.sum()), 1)
    waiting, running = (int(column[heard].sum()) // share for column in numbers[3:5])
    numbers[:3, ~field.known] = 0
    numbers[3, silent] = waiting
    numbers[4, silent] = np.maximum(running, numbers[8, silent])
    numbers[5:8, silent] = 0  # an unknown size is never full
    return Field(field.replicas, numbers, field.known, field.fresh)
