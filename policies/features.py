"""What a policy believes of its candidates: impossible numbers are set aside, unread pages are guessed."""

from collections.abc import Sequence
from operator import attrgetter

from msgspec.structs import replace

from .contract import Candidate, RoutedRequest

SEQUENCE_TOKENS = 16.0  # a running sequence delays a newcomer about as much as this many waiting prompt tokens
_COUNTS_BELOW = 1 << 48  # no honest count of tokens, blocks or sequences comes near


def credible(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Give the candidates whose numbers can be true, by replica id.

    Those that are silent stand in with the average load of those that are not, those not known without a prefix as
    well. Where no numbers can be true, every candidate stays, with none. Raises ValueError for no candidates at all.
    """
    if not candidates:
        raise ValueError("a policy chooses from at least one candidate; got none")
    field = sorted((each for each in candidates if _possible(each)), key=attrgetter("replica"))
    if not field:
        blank = (Candidate(each.replica, known=False) for each in candidates)
        return tuple(sorted(blank, key=attrgetter("replica")))
    heard = [each for each in field if each.known and each.fresh]
    if len(heard) == len(field):
        return tuple(field)
    return tuple(each if each.known and each.fresh else _guessed(each, heard) for each in field)


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


def load_tokens(candidate: Candidate) -> float:
    """Say how busy a replica is, in prompt tokens: those waiting, and its sequences at `SEQUENCE_TOKENS` each."""
    sequences = max(candidate.running_sequences, candidate.ongoing)
    return candidate.waiting_prefill_tokens + SEQUENCE_TOKENS * sequences


def cached_tokens(request: RoutedRequest, candidate: Candidate) -> int:
    """Count the prompt tokens a replica can reuse; the last one is always computed."""
    held = max(candidate.gpu_tokens, candidate.cpu_tokens, candidate.disk_tokens) if candidate.known else 0
    return min(held, request.prompt_tokens - 1)


def _possible(candidate: Candidate) -> bool:
    # NaN compares false, so it is impossible without being named.
    return (
        0 <= candidate.gpu_tokens < _COUNTS_BELOW
        and 0 <= candidate.cpu_tokens < _COUNTS_BELOW
        and 0 <= candidate.disk_tokens < _COUNTS_BELOW
        and 0 <= candidate.waiting_prefill_tokens < _COUNTS_BELOW
        and 0 <= candidate.running_sequences < _COUNTS_BELOW
        and 0 <= candidate.decode_blocks < _COUNTS_BELOW
        and 0 <= candidate.free_blocks < _COUNTS_BELOW
        and 0 <= candidate.total_blocks < _COUNTS_BELOW
        and 0 <= candidate.ongoing < _COUNTS_BELOW
        and 0 <= candidate.last_chosen < _COUNTS_BELOW
    )


def _guessed(candidate: Candidate, heard: Sequence[Candidate]) -> Candidate:
    """A silent page's load is old, yet what this router has sent there since is not."""
    share = max(len(heard), 1)
    return replace(
        candidate,
        gpu_tokens=candidate.gpu_tokens if candidate.known else 0,
        cpu_tokens=candidate.cpu_tokens if candidate.known else 0,
        disk_tokens=candidate.disk_tokens if candidate.known else 0,
        waiting_prefill_tokens=sum(each.waiting_prefill_tokens for each in heard) // share,
        running_sequences=max(sum(each.running_sequences for each in heard) // share, candidate.ongoing),
        decode_blocks=0,
        free_blocks=0,
        total_blocks=0,  # an unknown size is never full
    )
