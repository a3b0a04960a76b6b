"""The names of one domain: at which level each stands, and what changed since that was last told."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from .counts import GONE, ONE, nearest
from .ids import Level
from .keys import DomainKey

_LEVEL_BITS = 3
_ANY_LEVEL = (1 << _LEVEL_BITS) - 1


class Standing(NamedTuple):
    """Names, packed as uint64, that stand at one level."""

    level: Level
    names: bytes
    resume: Level | None = None  # of hybrid models: where their windows stand too


class Moved(NamedTuple):
    """What was told last of names, and how they stand."""

    before: Level
    now: Standing


class Names:
    """Counts the blocks behind each name by level: several engine hashes may share a name, and the nearest counts.

    A domain with something to tell puts itself on the list `changed`, once.
    """

    __slots__ = ("__weakref__", "_changed", "_counts", "_told", "_windows", "key", "salt", "usable")

    def __init__(self, key: DomainKey, changed: list["Names"], salt: str = "") -> None:
        self.key = key
        self.salt = salt
        self.usable = 0  # names that stand at some level
        self._changed = changed
        self._counts: dict[int, int] = {}  # packed (`counts.py`)
        self._told: dict[int, int] = {}  # of names that may have changed: the level that was told last
        self._windows: dict[int, int] | None = None  # of hybrid models: counts like those, where windows stand

    def add(self, names: Sequence[int], level: int) -> None:
        """One more block stands behind each of these names."""
        if not self._counts.keys().isdisjoint(names):
            for name in names:
                self.move(name, GONE, level)
            return
        self._news()
        self._counts.update(dict.fromkeys(names, ONE[level]))
        self._told.update(dict.fromkeys(names, GONE))
        self.usable += len(names)

    def move(self, name: int, before: int, level: int) -> None:
        """A block behind a name moved from one level to another."""
        count = self._counts.get(name, 0)
        now = self._counts[name] = count + ONE[level] - ONE[before]
        if name not in self._told:
            self._news()
            self._told[name] = nearest(count)
        if not count:
            self.usable += 1
        elif not now:
            self.usable -= 1

    def look_back(self) -> None:
        """From here on the model is a hybrid: windows are to stand too, and stand nowhere yet."""
        if self._windows is None:
            self._windows = {}
            for name in self._counts:
                self._touch(name)

    def move_windows(self, name: int, before: int, level: int) -> None:
        """The windows at a block behind a name moved from one level to another."""
        assert self._windows is not None, "only hybrid models have windows"
        count = self._windows.pop(name, 0) + ONE[level] - ONE[before]
        if count:
            self._windows[name] = count
        if name in self._counts:
            self._touch(name)

    def clear(self) -> None:
        """No block stands behind any name."""
        if self._counts:
            self._news()
        for name, count in reversed(self._counts.items()):  # the deepest first: what is told in parts is closed
            self._told.setdefault(name, nearest(count))
        self._counts = dict.fromkeys(self._counts, 0)
        self._windows = None if self._windows is None else {}
        self.usable = 0

    def moved(self) -> list[Moved]:
        """What may have changed since it was last told, each name once."""
        told = self._told
        marks = [mark << _LEVEL_BITS | before for mark, before in zip(self._marks(told), told.values(), strict=True)]
        return [
            Moved(_level(mark & _ANY_LEVEL), _standing(mark >> _LEVEL_BITS, names))
            for mark, names in _grouped(told, marks)
        ]

    def tell(self) -> list[Moved]:
        """What may have changed, which is told now."""
        moved = self.moved()
        if self.usable < len(self._counts):
            for name in self._told:
                if not self._counts[name]:
                    del self._counts[name]
        self._told.clear()
        return moved

    def holding(self) -> list[Standing]:
        """All names that stand at some level."""
        standing = [_standing(mark, names) for mark, names in _grouped(self._counts, self._marks(self._counts))]
        return [each for each in standing if each.level]

    def _marks(self, names: Collection[int]) -> list[int]:
        """How each name stands, packed: its counts, and below them where its windows stand, 0 for no hybrid."""
        counts, windows = self._counts, self._windows
        if windows is None:
            return [counts[name] << _LEVEL_BITS for name in names]
        return [counts[name] << _LEVEL_BITS | nearest(windows.get(name, 0)) for name in names]

    def _touch(self, name: int) -> None:
        """A name may have changed other than by its level."""
        if name not in self._told:
            self._news()
            self._told[name] = nearest(self._counts[name])

    def _news(self) -> None:
        if not self._told:
            self._changed.append(self)


def _grouped(names: Collection[int], marks: Collection[int]) -> Iterable[tuple[int, Collection[int]]]:
    """Names of the same mark together; there is nearly always one mark, or two."""
    distinct = set(marks)
    if len(distinct) == 1:
        return [(distinct.pop(), names)]
    groups: dict[int, list[int]] = {mark: [] for mark in distinct}
    for name, mark in zip(names, marks, strict=True):
        groups[mark].append(name)
    return groups.items()


def _standing(mark: int, names: Collection[int]) -> Standing:
    windows = mark & _ANY_LEVEL
    return Standing(_level(nearest(mark >> _LEVEL_BITS)), _packed(names), _level(windows) if windows else None)


def _level(level: int) -> Level:
    return Level.NONE if level == GONE else Level(level)


def _packed(names: Collection[int]) -> bytes:
    return np.fromiter(names, "<u8", len(names)).tobytes()
