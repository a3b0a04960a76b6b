"""One request on one replica, and what a replica tells of its cache."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Tier = Literal["gpu", "cpu", "disk"]


@dataclass(slots=True, eq=False)
class Job:
    """What is asked for, and, as the replica gets on with it, when each thing happened; at least one token comes out.

    Only prompts of one domain share blocks. A job that could never fit is `refused` as it is submitted.
    """

    key: int
    domain: int
    block_ids: NDArray[np.int64]  # of the prompt's blocks, each standing for the whole prefix up to it
    prompt_tokens: int
    output_tokens: int
    arrived_ms: float = math.nan
    began_ms: float | None = None  # the start of the first step that computes some of it
    first_token_ms: float | None = None
    ended_ms: float | None = None
    cached_tokens: int = 0  # of the prompt, found when it first began
    steps: int = 0  # from there to its first token; below 0 until then
    step_tokens: int = 0  # of all prompts, computed in these steps; likewise
    refused: bool = False


class CacheChange(NamedTuple):
    """Blocks of one prefix that came to a tier, or blocks that left it; those of generated tokens have negative ids."""

    at_ms: float  # the end of the step that did it, which is when an engine tells it
    stored: bool
    tier: Tier
    domain: int
    parent: int | None  # of stored blocks: the block before the first; None: the first opens the prompt
    block_ids: tuple[int, ...]  # stored: in the prompt's order; removed: in the order they went
