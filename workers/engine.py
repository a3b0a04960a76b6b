"""What an inference engine promises, and the events it tells of its KV cache."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

BlockHash = int | bytes  # the engine's own name of a block; opaque, equal for equal content
Tier = Literal["gpu", "cpu", "disk"]

EVERY = 1 << 30  # blocks; longer than any prompt


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. Stop strings are matched where text is made, in the router."""

    max_tokens: int
    temperature: float = 1.0  # 0: greedy
    top_p: float = 1.0
    seed: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class Public:
    """The leading blocks of a prompt that are cached under a salt which several tenants share."""

    salt: str = field(repr=False)
    blocks: int


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One prompt to continue. Only requests of the same salt share cache; of the same public one, its blocks."""

    id: str
    words: bytes  # token ids, little-endian uint32
    salt: str = field(repr=False)
    sampling: Sampling
    public: Public | None = None

    @property
    def prompt_tokens(self) -> int:
        return len(self.words) // 4


@dataclass(frozen=True, slots=True)
class Delta:
    """Tokens as they come. The first one says what the prompt cost, the last one how it ended."""

    token_ids: tuple[int, ...]
    cached_tokens: int  # prompt tokens whose KV was found, the same in every delta
    queue_ms: float  # arrival to the first prefill step, the same in every delta
    prefill_ms: float  # first prefill step to first token, the same in every delta
    finish: Literal["stop", "length"] | None = None
    steps: int = 0  # that the prefill took, the same in every delta; 0: the engine does not tell
    step_tokens: int = 0  # prompt tokens computed in those steps, other requests' included


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """What the engine has to do now."""

    waiting_prefill_tokens: int
    running_sequences: int
    decode_blocks: int
    free_blocks: int
    waiting_sequences: int = 0  # requests, admitted or queued, that have not got their first token


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the engine can hold."""

    blocks: int
    block_tokens: int
    max_prompt_tokens: int  # prompt and output share the model's context
    max_sequences: int


@dataclass(frozen=True, slots=True)
class Stored:
    """Consecutive blocks that can be reused from now on."""

    hashes: tuple[BlockHash, ...]
    parent: BlockHash | None  # the block before the first; None: the first opens a prompt
    words: bytes  # the blocks' tokens, little-endian uint32
    tier: Tier = "gpu"
    salt: str | None = field(default=None, repr=False)  # known on a segment's first block; inherited from the parent


@dataclass(frozen=True, slots=True)
class Removed:
    """Blocks that left a tier, one copy for each mention."""

    hashes: tuple[BlockHash, ...]
    tier: Tier = "gpu"


@dataclass(frozen=True, slots=True)
class WindowsStored:
    """Blocks of one group of such layers: copies beside those of the group that looks back at all.

    The engine can go on behind a block only if the group has that one and those before it, `reach` in all.
    """

    hashes: Sequence[BlockHash]
    group: int
    reach: int
    tier: Tier = "gpu"


@dataclass(frozen=True, slots=True)
class WindowsRemoved:
    """Blocks that left a group in one tier, one copy for each mention."""

    hashes: Sequence[BlockHash]
    group: int
    tier: Tier = "gpu"


@dataclass(frozen=True, slots=True)
class Cleared:
    """Every block of every tier is gone."""


EngineEvent = Stored | Removed | WindowsStored | WindowsRemoved | Cleared


class Unservable(ValueError):
    """A request that this engine could never serve, however idle."""


class EngineDead(Exception):
    """The engine's loop has ended; the replica must be replaced."""


class Engine(Protocol):
    """Every engine passes tests/workers/test_engine_contract.py. It is opened by `async with` and closed on leaving."""

    def generate(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        """Continue a prompt; closing the iterator frees the sequence. Raises `EngineDead`, and `Unservable` at once."""
        ...

    def events(self) -> AsyncIterator[Sequence[EngineEvent]]:
        """Yield changes of the KV cache in order and whole, from the engine's start, to one reader."""
        ...

    def load(self) -> EngineLoad:
        """Count the work at hand; cheap. Raises `EngineDead`."""
        ...

    def capacity(self) -> Capacity: ...
