"""What a policy believes of its candidates: impossible numbers are set aside, unread pages are guessed."""

from collections.abc import Sequence

import numpy as np

from .contract import Candidate, RoutedRequest
from .field import HELD, Field, Flags, Floats, Ints

SEQUENCE_TOKENS = 16.0  # a running sequence delays a newcomer about as much as this many waiting prompt tokens
_COUNTS_BELOW = 1 << 48  # no honest count of tokens, blocks or sequences comes near
_CHECKED = 11  # columns; the last, what is expected, only explains


def credible(candidates: Sequence[Candidate]) -> Field:
    """Give the candidates whose numbers can be true, by replica id.

    Those that are silent stand in with the average load of those that are not, those not known without a prefix as
    well. Where no numbers can be true, every candidate stays, with none. Raises ValueError for no candidates at all.
    """
    field = Field.of(candidates)
    if not len(field):
        raise ValueError("a policy chooses from at least one candidate; got none")
    counts = field.numbers[:_CHECKED].view(np.uint64)  # a negative number is a huge one here
    if counts.item(counts.argmax()) >= _COUNTS_BELOW:
        possible = (counts < _COUNTS_BELOW).all(axis=0)
        if not possible.any():
            nothing = np.zeros(len(field), np.bool_)
            return Field(field.replicas, np.zeros_like(field.numbers), nothing, ~nothing)
        field = field.at(np.flatnonzero(possible))
    heard = field.known & field.fresh
    return field if all_of(heard) else _guessed(field, heard)


def credible_request(request: RoutedRequest) -> RoutedRequest:
    """Read a size that cannot be true as the smallest one."""
    prompt, output, block = request.prompt_tokens, request.max_tokens, request.block_tokens
    if 1 <= prompt < _COUNTS_BELOW and 0 <= output < _COUNTS_BELOW and 1 <= block < _COUNTS_BELOW:
        return request
    return RoutedRequest(
        prompt if 1 <= prompt < _COUNTS_BELOW else 1,
        output if 0 <= output < _COUNTS_BELOW else 0,
        block if 1 <= block < _COUNTS_BELOW else 1,
        request.affinity,
        request.at_s,
    )


def load_tokens(field: Field) -> Floats:
    """Say how busy replicas are, in prompt tokens: those waiting, and their sequences at `SEQUENCE_TOKENS` each."""
    sequences = np.maximum(field.running_sequences, field.ongoing)
    return field.waiting_prefill_tokens + SEQUENCE_TOKENS * sequences


def cached_tokens(request: RoutedRequest, field: Field) -> Ints:
    """Count the prompt tokens that replicas can reuse; the last one is always computed.

    Where no other tier has more, and nobody has all, it is the column of the gpu tier itself.
    """
    deepest, tiers = field.gpu_tokens, field.numbers[HELD]
    if tiers[1:].tobytes() != tiers[:-1].tobytes():  # told by bytes in a third of the time that numbers take
        deepest = np.maximum(np.maximum(deepest, field.cpu_tokens), field.disk_tokens)
    most = request.prompt_tokens - 1
    held = deepest if deepest.item(deepest.argmax()) <= most else np.minimum(deepest, most)
    return held if all_of(field.known) else held * field.known


def all_of(flags: Flags) -> bool:
    """Whether each of at least one flag is set, in a fifth of the time that `np.all` takes."""
    return bool(flags.item(flags.argmin()))


def _guessed(field: Field, heard: Flags) -> Field:
    """A silent page's load is old, yet what this router has sent there since is not."""
    numbers, silent = field.numbers.copy(), ~heard
    share = max(int(heard.sum()), 1)
    waiting, running, sequences = (int(column[heard].sum()) // share for column in numbers[[3, 4, 9]])
    numbers[:3, ~field.known] = 0
    numbers[3, silent] = waiting
    numbers[4, silent] = np.maximum(running, numbers[8, silent])
    numbers[5:8, silent] = 0  # an unknown size is never full
    numbers[9, silent] = sequences
    return Field(field.replicas, numbers, field.known, field.fresh)
