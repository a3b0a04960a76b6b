"""What a holder can have, and can have come by: no more than fits, and no faster than prompts are computed."""

from collections.abc import Callable, Iterable

from .ids import Level
from .wire import MAX_BODY_BYTES, Changes, Checkpoint, Load, Message

NEW_BLOCKS_PER_S = 65_536.0  # a million prompt tokens a second in blocks of 16: several times the fastest engines
ASIDE_S = 5.0  # at least, since to take a page up again it is read anew

_NAME_BYTES = 8
_MOST_BLOCKS = MAX_BODY_BYTES // _NAME_BYTES  # that a checkpoint has room for: no holder has more
_MOST_PARTS = 64  # of one batch: four million changes


class Plausibility:
    """Weighs one holder's messages, each after it was applied, and says when its page is to be set aside.

    New blocks are a debt that time pays. It may be as high as all that fits in gpu, for a batch is told at once, and as
    what was paid for before on top of that: where an inner block returns, so do those behind it. A checkpoint is taken
    for paid; it tells what was computed long ago.
    """

    def __init__(self, new_blocks_per_s: float, clock: Callable[[], float]) -> None:
        self._new_blocks_per_s = new_blocks_per_s
        self._clock = clock
        self._epoch = -1
        self._at = clock()
        self._debt = 0.0
        self._paid = 0.0  # the most blocks it had that were paid for
        self._parts = 0
        self._doubted_at = self._at
        self.aside = False
        self.crowded = 0  # messages that left more in gpu than fits
        self.hasty = 0  # messages that left more new blocks than can have been computed

    def weigh(self, message: Message, new: int, gpu: int, blocks: int) -> bool:
        """Whether a holder can have so many blocks in gpu and in all, of which the message brought so many new.

        Once it cannot, it stays aside until it has been in the right for five seconds, a whole batch being the last.
        """
        if message.epoch != self._epoch:
            self._epoch, self._debt, self._paid, self._parts = message.epoch, 0.0, 0.0, 0
        self._parts = 0 if _is_whole(message) else self._parts + 1
        in_parts, fits = 0 < self._parts <= _MOST_PARTS, _fits(message.load)
        crowded = gpu > (2 * fits if in_parts else fits)  # the new may be told before what they replaced
        hasty = self._owes(new, blocks) > fits + self._paid
        self.crowded += crowded
        self.hasty += hasty
        if crowded or hasty:
            self.aside, self._doubted_at = True, self._at
        elif self.aside and not in_parts:
            self.aside = self._at - self._doubted_at < ASIDE_S
        return not self.aside

    def _owes(self, new: int, blocks: int) -> float:
        now = self._clock()
        self._debt = max(0.0, self._debt - (now - self._at) * self._new_blocks_per_s) + new
        self._at = now
        self._paid = max(self._paid, blocks - self._debt)
        return self._debt


def _is_whole(message: Message) -> bool:
    """Whether a message ends what is told in parts; only the last part has a digest."""
    return isinstance(message, Checkpoint) or bool(message.digest)


def new_blocks(changes: Iterable[Changes], before: int, after: int) -> int:
    """How many blocks a batch brought, by how many there were before and after: what went was replaced.

    Moving between tiers brings none. What came and went since the batch before is in it as gone, and was computed too.
    """
    return after - before + sum(len(each.names) // _NAME_BYTES for each in changes if each.level == Level.NONE)


def _fits(load: Load) -> int:
    """Blocks in gpu by a holder's own word; one that gives none, or a fantastic one, is taken to have room for all."""
    return min(load.total_blocks or _MOST_BLOCKS, _MOST_BLOCKS)
