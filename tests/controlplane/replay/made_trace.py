"""Small traces made by hand: conversations whose turns begin like the turn before."""

from collections.abc import Sequence
from random import Random

from kvplane.controlplane.replay.trace import Ranges, Trace, TraceRequest

BLOCK = 16


def conversations(
    turns: int = 100,
    *,
    sessions: int = 12,
    tenants: Sequence[str] = ("acme", "globex"),
    apart_ms: float = 60.0,
    seed: int = 7,
) -> Trace:
    """So many turns, by chance of one of the sessions: each has the blocks of the one before it and 4 to 12 more.

    All sessions of all tenants open with the same 4 blocks. No prompt ends where a block does.
    """
    random = Random(seed)
    blocks = [4] * sessions
    requests, at_ms = [], 0.0
    for _ in range(turns):
        session = random.randrange(sessions)
        blocks[session] += random.randint(4, 12)
        ranges: Ranges = ((0, 4), (1000 * (session + 1), blocks[session] - 4))
        prompt_tokens = BLOCK * blocks[session] - random.randint(1, BLOCK - 1)
        tenant = tenants[session % len(tenants)]
        requests.append(TraceRequest(at_ms, prompt_tokens, random.randint(1, 40), ranges, str(session), tenant))
        at_ms += random.expovariate(1 / apart_ms)
    return Trace("made", BLOCK, requests)


def prompts(*asked: tuple[float, int, int], tenants: str = "", output_tokens: int = 4) -> Trace:
    """A request each: when, the first id, how many blocks; all but the last token of the last one are there."""
    requests = [
        TraceRequest(at_ms, BLOCK * count - 1, output_tokens, ((first, count),), "", tenants[at : at + 1] or "acme")
        for at, (at_ms, first, count) in enumerate(asked)
    ]
    return Trace("prompts", BLOCK, requests)
