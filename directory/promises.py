"""What a router's own tickets will leave in the caches they were sent to, until the table says so itself."""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence

from .ids import DomainTag, HolderId
from .prefix import WORD_BYTES, Prefix, Segment

LAG_S = 1.0  # by then a replica's page says what an ended request left

_PROMPTS = 4096
_BYTES = 64 << 20
_COMPARED = 32  # the latest; what older ones left is in the table by then
_STRIDE = 256  # blocks compared at once: what is cut out for it stays in the processor's nearest cache


class Promises:
    """Prompts under way, held against a new one word by word. Bounded: the oldest go first. For one event loop.

    An engine computes prompts as they come, a chunk a step, and shares a block once it is computed; vLLM, once it is
    scheduled. So a prompt that goes where a promise was made finds all of it in vLLM, and in an engine of the first
    kind all but what the very step computes in which it is admitted: a chunk at most, and nothing when one waits for
    the other. A promise says where a prefix will be; only the table says where it is.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._prompts: dict[int, _Prompt] = {}  # by ticket, oldest first
        self._groups: dict[tuple[DomainTag, bytes], list[_Prompt]] = {}  # by domain and first block, oldest first
        self._ending: deque[tuple[float, int]] = deque()
        self._bytes = 0

    def make(self, number: int, holder: HolderId, prefix: Prefix) -> None:
        """A holder will have every whole block of a ticket's prompt; its last one too, unlike what can be reused."""
        self._expire()
        blocks = min(len(prefix.words) // _block_bytes(prefix), prefix.segments[-1].until_block)
        if not blocks:
            return
        prompt = _Prompt(holder, prefix, blocks)
        group = self._groups.setdefault(prompt.group, [])
        if group:
            prompt.alike = _shared(prefix, blocks, group[-1], 0)
        group.append(prompt)
        self._prompts[number] = prompt
        self._bytes += len(prefix.words)
        while len(self._prompts) > _PROMPTS or self._bytes > _BYTES:
            self.withdraw(next(iter(self._prompts)))

    def end(self, number: int) -> None:
        """The ticket's request is over; the promise stands for one lag more."""
        if number in self._prompts:
            self._ending.append((self._clock() + LAG_S, number))

    def withdraw(self, number: int) -> None:
        """The promise is void; voiding what is not there is fine."""
        prompt = self._prompts.pop(number, None)
        if prompt is None:
            return
        self._bytes -= len(prompt.prefix.words)
        group = self._groups[prompt.group]
        place = group.index(prompt)
        del group[place]
        if place < len(group):  # the next one's neighbour is the one before: they are alike at least as far as this
            group[place].alike = min(group[place].alike, prompt.alike)
        elif not group:
            del self._groups[prompt.group]

    def extents(self, prefix: Prefix) -> dict[HolderId, int]:
        """How many leading blocks of a new prompt each holder was promised, by the latest 32 that begin like it.

        Blocks are shared within a domain alone. Costs one pass over the longest extent, hardly more for each prompt.
        """
        self._expire()
        most = prefix.blocks
        found: dict[HolderId, int] = {}
        if not most or not self._groups:
            return found
        extent = alike = 0
        for prompt in reversed(self._groups.get(_group(prefix), ())[-_COMPARED:]):
            # Who parts from one prompt before that parts from its neighbour parts from both at the same block.
            if extent >= alike:
                extent = _shared(prefix, most, prompt, alike)
            if extent > found.get(prompt.holder, 0):
                found[prompt.holder] = extent
            alike = prompt.alike
        return found

    def _expire(self) -> None:
        while self._ending and self._ending[0][0] <= self._clock():
            self.withdraw(self._ending.popleft()[1])


class _Prompt:
    """One ticket's prompt, and how many blocks it shares at least with the one before it in its group."""

    __slots__ = ("alike", "blocks", "group", "holder", "prefix")

    def __init__(self, holder: HolderId, prefix: Prefix, blocks: int) -> None:
        self.holder = holder
        self.prefix = prefix
        self.blocks = blocks
        self.group = _group(prefix)
        self.alike = 0


def _group(prefix: Prefix) -> tuple[DomainTag, bytes]:
    return prefix.segment(1).key.tag, prefix.words[: _block_bytes(prefix)]


def _block_bytes(prefix: Prefix) -> int:
    return prefix.block_tokens * WORD_BYTES


def _shared(prefix: Prefix, blocks: int, prompt: _Prompt, known: int) -> int:
    """How many of the first `blocks` blocks two prompts share, the first `known` for certain."""
    left, right, size = prefix.words, prompt.prefix.words, _block_bytes(prefix)
    if left[known * size : (known + 1) * size] != right[known * size : (known + 1) * size]:
        return known  # most often: what a system prompt is all they share
    most = min(blocks, prompt.blocks, _same_domain(prefix.segments, prompt.prefix.segments))

    def differs(end: int) -> bool:
        return not left.startswith(right[equal * size : end * size], equal * size)

    equal, stride = known, 1
    while equal < most:
        end = min(equal + stride, most)
        if differs(end):
            return equal + bisect_left(range(equal + 1, end), True, key=differs)
        equal, stride = end, min(2 * stride, _STRIDE)
    return most


def _same_domain(left: Sequence[Segment], right: Sequence[Segment]) -> int:
    """How many leading blocks lie under the same keys."""
    until = 0
    for one, other in zip(left, right, strict=False):
        if one.key.tag != other.key.tag:
            break
        until = min(one.until_block, other.until_block)
        if one.until_block != other.until_block:
            break
    return until
