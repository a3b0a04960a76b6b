"""How long a choice stands: with more in line at the replica than this, another would have been the better one."""

from collections.abc import Sequence

from .contract import Choice, ReplicaId

_LEAD = 0.5  # of it: who waits there is held up by the newcomer too, which costs about as much again
_SLACK_MS = 10.0  # a few round trips: to choose again for less costs more than it gains


def waits_at_most(choice: Choice, ranks: Sequence[ReplicaId], waiting_tokens: int) -> int | None:
    """The most prompt tokens waiting at the chosen replica, `waiting_tokens` as far as is known, that leave it chosen.

    `ranks` begin with that and the second best. None: whatever there is. That is so without a second best, for a choice
    that explores, and where a policy's costs are no times at known rates.
    """
    token_ms = choice.basis.get("token_ms", 0.0)
    if len(ranks) < 2 or token_ms <= 0:
        return None
    ahead_ms = choice.scores[ranks[1]] - choice.scores[choice.replica]
    return None if ahead_ms < 0 else waiting_tokens + int((_LEAD * ahead_ms + _SLACK_MS) / token_ms)
