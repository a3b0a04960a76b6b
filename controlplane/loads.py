"""What live replicas have to do, as columns kept from decision to decision: who says nothing new costs nothing."""

from array import array
from collections.abc import Iterable, Mapping

import numpy as np

from ..directory import HolderId, Load, Mirror, Overlay
from ..directory.overlay import NOTHING_PENDING
from ..policies import ReplicaId
from ..policies.field import COLUMNS, LAST_CHOSEN, LOAD, Flags, Floats, Ints
from .roster import Roster

_SILENT_AFTER_S = 3.0  # a page this old says little about its replica's load
_UNKNOWN = (Load(), float("-inf"))  # what was never heard of has not fallen silent
_REMEMBERED = 16  # departed replicas, and twice as many as are live: some come back


class Loads:
    """For one router. `refresh` makes all columns true; they are in the order of `replicas`.

    That costs 1 to 2 us for each replica whose page spoke or whose tickets changed since the last time, and the same
    for every replica when those that are live are others than before.
    """

    def __init__(self, mirror: Mirror, overlay: Overlay, roster: Roster) -> None:
        self._mirror = mirror
        self._overlay = overlay
        self._roster = roster
        self._heard, self._sent = mirror.watch(), overlay.watch()
        self._chosen_at: dict[str, int] = {}  # decisions, by number
        self._live: tuple[str, ...] | None = None  # whom the columns are of; None: not all of them were read
        self._begin(())

    def refresh(self) -> None:
        """Take in what was said and done since the last time."""
        live = self._roster.live
        if live is not self._live:
            self._live = None
            self._begin(live)
            self._read(map(HolderId, live))
            self._live = live
        elif self._heard or self._sent:
            self._read(holder for holder in self._heard | self._sent if holder in self._places)
        self._heard.clear()
        self._sent.clear()

    def chose(self, replica: str, decision: int) -> None:
        """Note the latest decision for a replica; numbers rise from 1."""
        self._chosen_at[replica] = decision
        place = self._places.get(HolderId(replica))
        if place is not None:
            self._cells[LAST_CHOSEN * len(self.replicas) + place], self._ever_chosen[place] = decision, 1

    def last_chosen(self, replica: str, decision: int) -> int:
        """How many decisions before this one a replica was last chosen; 0: never."""
        at = self._chosen_at.get(replica)
        return 0 if at is None else decision - at

    def numbers(self, decision: int) -> Ints:
        """The rows of a field (`policies/field.py`) for a decision, its own to change: nothing is held or expected."""
        numbers = self._numbers.copy()
        last_chosen = numbers[LAST_CHOSEN]
        np.subtract(decision, last_chosen, out=last_chosen)
        np.multiply(last_chosen, self._ever_chosen_row, out=last_chosen)
        return numbers

    @property
    def fresh(self) -> Flags:
        """Whose page spoke of late, or never did."""
        fresh: Flags = self._heard_at_row > self._mirror.now_s - _SILENT_AFTER_S
        return fresh

    @property
    def total_blocks(self) -> int:
        """Of all replicas together."""
        return int(self._numbers[COLUMNS.index("total_blocks")].sum())

    @property
    def all_known(self) -> bool:
        return 0 not in self._known

    def column(self, numbers: Mapping[HolderId, int]) -> Ints | None:
        """What only a few replicas have a number for: 0 for all others. None where no replica has one."""
        found: Ints | None = None
        for holder, number in numbers.items():
            place = self._places.get(holder)
            if place is not None:
                found = np.zeros(len(self.replicas), np.int64) if found is None else found
                found[place] = number
        return found

    def _begin(self, live: tuple[str, ...]) -> None:
        """Columns of zeros. Each is an array whose cells are set one by one, and seen by numpy as a row."""
        count = len(live)
        self.replicas, self.holders = tuple(map(ReplicaId, live)), tuple(map(HolderId, live))
        self._places = {HolderId(replica): place for place, replica in enumerate(live)}
        self._cells, self._known = array("q", bytes(8 * len(COLUMNS) * count)), bytearray(count)
        self._heard_at = array("d", bytes(8 * count))
        chosen_at = array("q", [self._chosen_at.get(replica, 0) for replica in live])
        self._cells[LAST_CHOSEN * count : (LAST_CHOSEN + 1) * count] = chosen_at  # decisions, by number
        self._ever_chosen = array("q", [at > 0 for at in chosen_at])
        self._numbers: Ints = np.frombuffer(self._cells, np.int64).reshape(len(COLUMNS), count)
        self.known: Flags = np.frombuffer(self._known, np.bool_)
        self._heard_at_row: Floats = np.frombuffer(self._heard_at)
        self._ever_chosen_row: Ints = np.frombuffer(self._ever_chosen, np.int64)
        if len(self._chosen_at) > 2 * count + _REMEMBERED:
            self._chosen_at = {replica: at for replica, at in self._chosen_at.items() if replica in self._places}

    def _read(self, holders: Iterable[HolderId]) -> None:
        mirror, overlay, cells, count = self._mirror, self._overlay, self._cells, len(self.replicas)
        now_s = mirror.now_s
        for holder in holders:
            place, heard = self._places[holder], mirror.load(holder)
            load, age_s = heard or _UNKNOWN
            pending = overlay.pending(holder, load.counted) if heard else NOTHING_PENDING
            first = LOAD.start * count + place
            cells[first] = load.waiting_prefill_tokens + pending.prefill_tokens
            cells[first + count] = load.running_sequences
            cells[first + 2 * count] = load.decode_blocks + pending.decode_blocks
            cells[first + 3 * count] = load.free_blocks
            cells[first + 4 * count] = load.total_blocks
            cells[first + 5 * count] = overlay.ongoing(holder)
            cells[first + 6 * count] = load.waiting_sequences + pending.tickets
            self._known[place] = heard is not None
            self._heard_at[place] = now_s - age_s
