"""The table of who holds what: name of a prefix -> a bit for each (holder, level)."""

from collections.abc import Iterable, Iterator

from .ids import LEVELS, HolderId, Level
from .overlap import NO_OVERLAP, Overlap, Run
from .prefix import Prefix
from .wire import Changes, names_of

_WIDTH = len(LEVELS)
_ALL = (1 << _WIDTH) - 1
# A level is a union with those before it: what is held at gpu is held at gpu or cpu, and in any tier.
_BITS = {Level.NONE: 0b000, Level.GPU: 0b111, Level.CPU: 0b110, Level.DISK: 0b100}
_FEW_RETIRED = 4


class Holdings:
    """Exact for every holder whose page was applied whole and in order. Not thread-safe.

    Holdings are closed under prefixes, so who holds depth d only shrinks with d: equal bits at both ends of an
    interval prove the whole interval, and `find` needs about log2(depth) names for each distinct extent.
    """

    def __init__(self) -> None:
        self._table: dict[int, int] = {}
        self._slots: dict[HolderId, int] = {}
        self._blocks: dict[int, int] = {}  # per slot in use
        self._retired: set[int] = set()  # slots whose bits still stand in the table
        self._live = 0  # the bits of all slots in use

    def apply(self, holder: HolderId, changes: Iterable[Changes]) -> None:
        """Change what a holder has; absolute, so applying twice is applying once."""
        slot = self._slots.get(holder)
        if slot is None:
            slot = self._slots[holder] = self._fresh()
            self._live |= _ALL << slot * _WIDTH
        self._write(slot, changes)

    def replace(self, holder: HolderId, changes: Iterable[Changes]) -> None:
        """Replace all that a holder has; it counts as before until the whole of `changes` is in."""
        slot = self._fresh()
        self._write(slot, changes)
        self._live |= _ALL << slot * _WIDTH  # before the old slot goes: that may sweep the table
        self.forget(holder)
        self._slots[holder] = slot

    def forget(self, holder: HolderId) -> None:
        """Drop a holder and all it has; unknown holders are fine."""
        slot = self._slots.pop(holder, None)
        if slot is None:
            return
        self._live &= ~(_ALL << slot * _WIDTH)
        del self._blocks[slot]
        self._retired.add(slot)
        if len(self._retired) > max(_FEW_RETIRED, len(self._slots) // 4):
            self._sweep()

    def find(self, prefix: Prefix) -> Overlap:
        """Who holds how much of a prompt: exact for all holders, at every level."""
        if not prefix.blocks or not self._live:
            return NO_OVERLAP
        deepest = self._at(prefix, prefix.blocks)
        ends = [(prefix.blocks, deepest)] if deepest else []
        ends.extend(self._ends(prefix, 0, prefix.blocks, self._live, deepest))
        return self._overlap(ends)

    def holders(self) -> frozenset[HolderId]:
        return frozenset(self._slots)

    def blocks(self, holder: HolderId) -> int:
        """How many names a holder has, in any tier."""
        slot = self._slots.get(holder)
        return 0 if slot is None else self._blocks[slot]

    def _at(self, prefix: Prefix, depth: int) -> int:
        return self._table.get(prefix.name(depth), 0) & self._live

    def _ends(self, prefix: Prefix, low: int, high: int, at_low: int, at_high: int) -> Iterator[tuple[int, int]]:
        """Each depth in [low, high) at which bits end, deepest first, with those bits."""
        if at_low == at_high:
            return
        if high - low == 1:
            if low:
                yield low, at_low & ~at_high
            return
        middle = (low + high) // 2
        # Clamped between both ends, so that a page that is not closed cannot make the answer inconsistent.
        at_middle = self._at(prefix, middle) & at_low | at_high
        yield from self._ends(prefix, middle, high, at_middle, at_high)
        yield from self._ends(prefix, low, middle, at_low, at_middle)

    def _overlap(self, ends: Iterable[tuple[int, int]]) -> Overlap:
        named = {slot: holder for holder, slot in self._slots.items()}
        runs: dict[Level, list[Run]] = {level: [] for level in LEVELS}
        for blocks, bits in ends:
            ending: dict[Level, set[HolderId]] = {}
            while bits:
                slot, index = divmod((bits & -bits).bit_length() - 1, _WIDTH)
                ending.setdefault(LEVELS[index], set()).add(named[slot])
                bits &= bits - 1
            for level, holders in ending.items():
                runs[level].append(Run(blocks, frozenset(holders)))
        return Overlap(runs)

    def _fresh(self) -> int:
        taken = self._blocks.keys() | self._retired
        slot = next(number for number in range(len(taken) + 1) if number not in taken)
        self._blocks[slot] = 0
        return slot

    def _write(self, slot: int, changes: Iterable[Changes]) -> None:
        table, own, held = self._table, _ALL << slot * _WIDTH, self._blocks[slot]
        for change in changes:
            bits = _BITS[Level(change.level)] << slot * _WIDTH
            for name in names_of(change):
                old = table.get(name, 0)
                held += bool(bits) - bool(old & own)
                new = old & ~own | bits
                if new:
                    table[name] = new
                else:
                    table.pop(name, None)
        self._blocks[slot] = held

    def _sweep(self) -> None:
        """One pass over the table frees the retired slots; several are gathered because the pass is dear."""
        live = self._live
        self._table = {name: bits & live for name, bits in self._table.items() if bits & live}
        self._retired.clear()
