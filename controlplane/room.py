"""How many more requests a router may send, and which replica has room, so that they wait in a router and nowhere else.

Routers do not talk. What a page shows to be left at a replica is shared among the routers whose tickets pages count, by
a rule that each works out alone, and each has a part of the slots that the others leave to it. A replica that has
prompts enough to compute is sent no more, however many slots it has.
"""

import time
from collections.abc import Callable, Collection

from ..directory import HolderId, Load, Mirror, Overlay
from ..directory.overlay import Pending
from .at_work import AtWork
from .roster import Roster

SPARE = 2  # requests beyond a full batch: they start while the router hears that others have ended

_LOOK_S = 0.005  # between two looks at what has changed, at the least
_LOOK_EACH_S = 20e-6  # and for each replica: one costs 3 us
_SWEEP_S = 0.25  # between two looks at all
_BACKLOG_TOKENS = 2048  # of prompts that a replica is given ahead: some steps' work
_BACKLOG = 2  # requests, likewise, however long: one is computed and one is next
_SILENT_AFTER_S = 3.0
_TURN_S = 0.01  # where tickets are held: a router that holds none for a replica must not keep the others from it
_SATURATED_S = 0.2  # since none had room; then all routers hold some, and each turn that tickets make is used
_NEWEST = 1 / 32  # the latest tickets' part in what the next is expected to cost
_UNKNOWN = (Load(), float("inf"))


class Room:
    """For one router of `routers`. `slots` gives the requests that one replica takes: its batch and `SPARE`.

    Up to `least` of them it gets however much there is to compute, where something else counts them.
    """

    def __init__(
        self,
        router: str,
        routers: int,
        mirror: Mirror,
        overlay: Overlay,
        roster: Roster,
        slots: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
        least: int = 0,
    ) -> None:
        self._routers = routers
        self._least = least
        self._mirror = mirror
        self._overlay = overlay
        self._roster = roster
        self._slots = slots
        self._clock = clock
        self._at_work = AtWork(router, routers, clock())
        self._heard, self._sent = mirror.watch(), overlay.watch()
        self._expected_tokens: float | None = None  # of a prompt, to be computed
        self._next_s = self._sweep_s = clock()
        self._room = self._left = 0  # as of the last look; of that, what has not been taken since
        self._taken = 0  # and not placed yet
        self._refused_s = float("-inf")
        self._begin((), 0)

    def take(self) -> bool:
        """Take room for one request, if there is any; whoever got it tells when the request is `placed`.

        What ends makes room once a page has said so, or after a while.
        """
        self._look_again()
        if self._left <= 0:
            self._refused_s = self._clock()
            return False
        self._left -= 1
        self._taken += 1
        return True

    def placed(self) -> None:
        """A request that had taken room has its ticket, or will never have one."""
        self._taken -= 1

    def admits(self, holder: HolderId, held: int) -> bool:
        """Whether a replica has room for one of the tickets issued for it, of which `held` have not been sent."""
        self._look_again()
        if holder not in self._rows:  # it is gone, and whoever waits for it is to go elsewhere
            return True
        now_s = self._clock()
        turns = 0 if now_s < self._refused_s + _SATURATED_S else int(now_s / _TURN_S)
        load, age_s = self._mirror.load(holder) or _UNKNOWN
        return self._left_at(holder, load, age_s, self._at_work.place(now_s), turns) + held > 0

    def idle(self, held: int) -> bool:
        """Whether this router has nothing in flight but what is held, of all replicas together."""
        return sum(map(self._overlay.ongoing, self._rows)) <= held

    def _begin(self, live: tuple[str, ...], slots: int) -> None:
        self._live, self._slots_then = live, slots
        self._own_part = max(1, slots // self._routers)  # of one replica's slots
        self._rows = {HolderId(replica): row for row, replica in enumerate(live)}
        self._rooms = [0] * len(live)
        self._room = 0

    def _look_again(self) -> None:
        now_s = self._clock()
        if now_s >= self._next_s:
            self._next_s = now_s + max(_LOOK_S, _LOOK_EACH_S * len(self._live))
            self._look(now_s)
            self._left = self._room - self._taken or self._one_at_least

    def _look(self, now_s: float) -> None:
        live, slots = self._roster.live, self._slots()
        if live is not self._live or slots != self._slots_then:
            self._begin(live, slots)
            self._sweep_s = now_s
        holders: Collection[HolderId] = (self._heard | self._sent) & self._rows.keys()
        if now_s >= self._sweep_s:  # who falls silent does not say so
            self._sweep_s, holders = now_s + _SWEEP_S, self._rows.keys()
        self._heard.clear()
        self._sent.clear()
        heard = {holder: self._mirror.load(holder) or _UNKNOWN for holder in holders}
        for load, _ in heard.values():
            self._at_work.counted(load.counted, now_s)
        at_work = self._at_work.place(now_s)
        for holder, (load, age_s) in heard.items():
            self._expect(self._overlay.pending(holder, load.counted))
            self._set(holder, self._left_at(holder, load, age_s, at_work))

    @property
    def _one_at_least(self) -> int:
        """Where a router has nothing in flight; else the others could not know that it is there."""
        return 0 if self._taken or any(map(self._overlay.ongoing, self._rows)) else 1

    def _left_at(self, holder: HolderId, load: Load, age_s: float, at_work: tuple[int, int], turns: int = 0) -> int:
        """Work out a router's part of what a page says is left, less what it has sent since; below zero for too much.

        The parts of a number, taken over all places, make up that number (Hermite's identity); who gets the odd ones
        changes with every ticket that pages count, and with every turn. A load has requests in prefill twice: less may
        seem left than is.
        """
        ongoing = self._overlay.ongoing(holder)
        if age_s > _SILENT_AFTER_S:
            return self._own_part - ongoing
        place, routers = at_work
        pending = self._overlay.pending(holder, load.counted).tickets
        in_flight = load.running_sequences + load.waiting_sequences
        if not in_flight:  # nor does it tell who else is about to begin
            routers = max(routers, self._routers)
        turn = (place + self._rows[holder] + sum(load.counted.values()) + turns) % routers
        backlog = max(_BACKLOG, min(self._backlog, self._slots_then - load.running_sequences))
        free, lacking = self._slots_then - in_flight, max(backlog - load.waiting_sequences, self._least - in_flight)
        slots, wanted = (max(0, free) + turn) // routers, (max(0, lacking) + turn) // routers
        more = min(max(slots, self._own_part - (ongoing - pending)), wanted if in_flight else max(1, wanted))
        return more - pending

    def _set(self, holder: HolderId, left: int) -> None:
        row = self._rows[holder]
        self._room += max(0, left) - self._rooms[row]
        self._rooms[row] = max(0, left)

    @property
    def _backlog(self) -> int:
        """Requests without a first token that keep a replica busy."""
        if self._expected_tokens is None:
            return _BACKLOG
        return max(_BACKLOG, int(_BACKLOG_TOKENS / max(1.0, self._expected_tokens)))

    def _expect(self, pending: Pending) -> None:
        if pending.tickets:
            mean = pending.prefill_tokens / pending.tickets
            before = mean if self._expected_tokens is None else self._expected_tokens
            self._expected_tokens = before + _NEWEST * (mean - before)
