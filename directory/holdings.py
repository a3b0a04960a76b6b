"""The table of who holds what: name of a prefix -> a bit for each (holder, level)."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, repeat
from sys import getsizeof

from .digest import Digest
from .ids import LEVELS, DomainTag, HolderId, Level
from .masks import ALL, BITS, LEVEL_OF, WIDTH, Rewrite
from .overlap import NO_OVERLAP, Overlap
from .prefix import Prefix
from .resume import resumable
from .search import ends_of
from .slot import Slot
from .wire import Changes, names_of

NAME_BYTES = 110  # what a name that one holder has comes to at most: an entry of a dict that just grew, an int, a mask
_INT_BYTES = 32  # of a name, as an int of two digits
_MOST_RETIRED = 64


class Holdings:
    """Exact for every holder whose page was applied whole and in order. Not thread-safe.

    A dict a domain. The masks of names that one batch wrote are one int where they are equal, so what a placed block
    costs is mostly its share of an entry: 20 to 30 bytes where a name has three holders.
    """

    def __init__(self) -> None:
        self._tables: dict[DomainTag, dict[int, int]] = {}
        self._lacking: dict[DomainTag, dict[int, int]] = {}  # hybrid models: names where windows do not stand
        self._slots: dict[HolderId, Slot] = {}
        self._named: tuple[HolderId | None, ...] = ()  # who has slot number 0, 1, ...
        self._drafts: set[int] = set()
        self._retired: set[int] = set()  # slot numbers whose bits still stand in the tables
        self._live = 0  # the bits of all holders' slots
        self._sweeping: Iterator[None] | None = None

    def apply(self, holder: HolderId, changes: Iterable[Changes]) -> None:
        """Change what a holder has; absolute, so applying twice is applying once."""
        slot = self._slots.get(holder)
        if slot is None:
            slot = self._fresh()
            self._adopt(holder, slot)
        self._write(slot, changes)

    def replace(self, holder: HolderId, changes: Iterable[Changes]) -> None:
        """Replace all that a holder has; it counts as before until the whole of `changes` is in."""
        draft = self.draft()
        draft.apply(changes)
        self.install(holder, draft)

    def draft(self) -> "Draft":
        """Begin what will replace a holding. It is seen by nobody until it is installed, else it is discarded."""
        slot = self._fresh()
        self._drafts.add(slot.number)
        return Draft(slot, self._write)

    def install(self, holder: HolderId, draft: "Draft") -> None:
        """Let a holder have what was drafted, and nothing of what it had before."""
        self._drafts.remove(draft.slot.number)
        self.forget(holder)
        self._adopt(holder, draft.slot)

    def discard(self, draft: "Draft") -> None:
        """Give a draft up; harmless for one that is installed."""
        if draft.slot.number in self._drafts:
            self._drafts.remove(draft.slot.number)
            self._retire(draft.slot)

    def forget(self, holder: HolderId) -> None:
        """Drop a holder and all it has at once; what it leaves in the tables is freed by `sweep`."""
        slot = self._slots.pop(holder, None)
        if slot is not None:
            self._live &= ~slot.own
            self._retire(slot)

    def sweep(self, most: int) -> bool:
        """Free up to `most` names of what the forgotten left: 0.2 us each, first 10 ns for every name there is.

        True while there is more.
        """
        if self._sweeping is None and self._retired:
            self._sweeping = self._freeing()
        if self._sweeping is not None and sum(1 for _ in islice(self._sweeping, most)) < most:
            self._sweeping = None
        return self._sweeping is not None or bool(self._retired)

    def find(self, prefix: Prefix, k: int | None = None) -> Overlap:
        """Who holds how much of a prompt, at every level.

        Exact for all holders; or for the `k` best, at less cost, with a bound for all others (`Overlap.bound`). Where
        holders of hybrid models have a say it is exact for all.
        """
        if not prefix.blocks or not self._live:
            return NO_OVERLAP
        ends, bound = ends_of(prefix, self._tables, self._live, None if self._lacking else k)
        if self._lacking:
            ends = resumable(prefix, ends, self._lacking)
        return Overlap(ends, self._named, bound)

    def blocks(self, holder: HolderId) -> int:
        """How many names a holder has, in any tier."""
        slot = self._slots.get(holder)
        return 0 if slot is None else slot.blocks

    def counts(self, holder: HolderId) -> dict[Level, int]:
        """How many names a holder has at each level and no nearer one."""
        slot = self._slots.get(holder)
        return {level: 0 if slot is None else slot.counts[level] for level in LEVELS}

    def resident(self, tag: DomainTag) -> int:
        """How many blocks all holders have of a domain, copies counted."""
        return sum(slot.domains.get(tag, 0) for slot in self._slots.values())

    def digest(self, holder: HolderId) -> bytes:
        """What all that was applied for a holder comes to (`digest.py`)."""
        slot = self._slots.get(holder)
        return bytes(Digest() if slot is None else slot.digest)

    def recount(self, holder: HolderId) -> bytes:
        """The same digest from what stands in the tables; a full pass."""
        digest, slot = Digest(), self._slots.get(holder)
        if slot is None:
            return bytes(digest)
        for table in self._tables.values():
            names: dict[Level, array[int]] = {level: array("Q") for level in Level}
            for name, mask in table.items():
                names[slot.level(mask)].append(name)
            for level in LEVELS:
                digest.add(level, names[level].tobytes())
        return bytes(digest)

    def tally(self) -> dict[tuple[HolderId, DomainTag, Level], int]:
        """How many names each holder has of each domain, at each level and no nearer one; a full pass."""
        holders = {slot.number: holder for holder, slot in self._slots.items()}
        found = Counter[tuple[HolderId, DomainTag, Level]]()
        for tag, table in self._tables.items():
            for mask, names in Counter(table.values()).items():
                bits = mask & self._live
                while bits:  # few of all holders have one name
                    number = ((bits & -bits).bit_length() - 1) // WIDTH
                    found[holders[number], tag, LEVEL_OF[bits >> number * WIDTH & ALL]] += names
                    bits &= ~(ALL << number * WIDTH)
        return dict(found)

    @property
    def bytes(self) -> int:
        """What the tables take in memory; a full pass."""
        masks = {id(mask): mask for table in self._tables.values() for mask in table.values()}
        tables = sum(getsizeof(table) + _INT_BYTES * len(table) for table in self._tables.values())
        return tables + sum(map(getsizeof, masks.values()))

    def _fresh(self) -> Slot:
        taken = self._drafts | self._retired | {slot.number for slot in self._slots.values()}
        return Slot(next(number for number in range(len(taken) + 1) if number not in taken))

    def _adopt(self, holder: HolderId, slot: Slot) -> None:
        self._slots[holder] = slot
        self._live |= slot.own
        self._name_slots()

    def _retire(self, slot: Slot) -> None:
        self._retired.add(slot.number)
        self._name_slots()
        if len(self._retired) > _MOST_RETIRED + 2 * len(self._slots):  # nobody sweeps
            while self.sweep(_MOST_RETIRED):
                pass

    def _name_slots(self) -> None:
        """Anew, never in place: an overlap that was handed out keeps the names it had."""
        numbers = {slot.number: holder for holder, slot in self._slots.items()}
        self._named = tuple(map(numbers.get, range(max(numbers, default=-1) + 1)))

    def _write(self, slot: Slot, changes: Iterable[Changes]) -> None:
        for change in changes:
            level, tag = Level(change.level), DomainTag(change.tag)
            names, packed = _once(change)
            table = self._tables.setdefault(tag, {})
            before = list(map(table.get, names, repeat(0)))
            rewrite = Rewrite(slot.own, BITS[level] << slot.shift)
            _put(table, names, list(map(rewrite.__getitem__, before)))
            blocks = slot.blocks
            slot.count(level, names, packed, rewrite, before)
            slot.domains[tag] = slot.domains.get(tag, 0) + slot.blocks - blocks
            if not table:
                del self._tables[tag]
            if change.resume is not None or tag in self._lacking:
                windows = level if change.resume is None else Level(change.resume)
                self._note_windows(slot, tag, names, BITS[level] & ~BITS[windows])

    def _note_windows(self, slot: Slot, tag: DomainTag, names: Sequence[int], lacking: int) -> None:
        table = self._lacking.setdefault(tag, {})
        rewrite = Rewrite(slot.own, lacking << slot.shift)
        _put(table, names, [rewrite[table.get(name, 0)] for name in names])
        if not table:
            del self._lacking[tag]

    def _freeing(self) -> Iterator[None]:
        """One step for each name there is. What is written meanwhile is not of the slots that are freed."""
        numbers = frozenset(self._retired)
        rewrite = Rewrite(sum(Slot(number).own for number in numbers), 0)
        for tables in (self._tables, self._lacking):
            for tag in list(tables):
                for name in list(tables.get(tag, ())):
                    table = tables.get(tag)
                    if table and name in table:
                        _put(table, (name,), (rewrite[table[name]],))
                    yield
                if not tables.get(tag, True):
                    del tables[tag]
        self._retired -= numbers


class Draft:
    """A holding in the making."""

    def __init__(self, slot: Slot, write: Callable[[Slot, Iterable[Changes]], None]) -> None:
        self.slot = slot
        self._write = write

    def apply(self, changes: Iterable[Changes]) -> None:
        """Change what will be held; absolute."""
        self._write(self.slot, changes)


def _once(change: Changes) -> tuple[Sequence[int], bytes]:
    """The names and their bytes, each name once."""
    names = names_of(change).tolist()
    if len(set(names)) == len(names):
        return names, change.names
    names = list(dict.fromkeys(names))
    return names, array("Q", names).tobytes()


def _put(table: dict[int, int], names: Sequence[int], masks: Sequence[int]) -> None:
    """A name that nobody has leaves the table."""
    if all(masks):
        table.update(zip(names, masks, strict=True))
        return
    for name, mask in zip(names, masks, strict=True):
        if mask:
            table[name] = mask
        else:
            table.pop(name, None)
