"""Who tries how a public prefix goes on, a little further each time."""

import logging
from collections.abc import Callable

from ..directory import Domain

log = logging.getLogger(__name__)

LITTLE = 16  # tokens of an answer: who probes wants none
_PLACES = 8  # a few versions of a system prompt part from it at a few
_WITHIN_S = 600.0
_KEPT_OUT_S = 3600.0


class Probing:
    """One per router: tenants that part from a public prefix at ever other places, and want hardly an answer.

    Who has the text sends all of it, and who has another version parts from it at one place, whatever follows. Who
    guesses it piece by piece parts from it at many. Such guesses find nothing, for a prefix counts as a whole or not
    at all; who makes them all the same shares nothing public for an hour. Words and places are never logged.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._places: dict[str, dict[tuple[Domain, int], float]] = {}  # by tenant: where it parted from what, and when
        self._until: dict[str, float] = {}
        self.flagged = 0  # times that a tenant was kept out

    @property
    def kept_out(self) -> tuple[str, ...]:
        """Tenants that share nothing public for the time being."""
        return tuple(sorted(filter(self.keeps_out, self._until)))

    def keeps_out(self, tenant: str) -> bool:
        return self._until.get(tenant, 0.0) > self._clock()

    def parted(self, tenant: str, domain: Domain, word: int, max_tokens: int) -> None:
        """Note a prompt that is like a public prefix up to a word within it."""
        if max_tokens > LITTLE:
            return
        now = self._clock()
        places = self._places.setdefault(tenant, {})
        places[domain, word] = now
        if len(places) < _PLACES:
            return
        recent = self._places[tenant] = {place: at for place, at in places.items() if now - at < _WITHIN_S}
        if len(recent) >= _PLACES:
            self.flagged += 1
            self._until[tenant] = now + _KEPT_OUT_S
            log.warning(
                "%s shares no public prefix for %.0f minutes: within %.0f, its prompts parted from one at %d places",
                tenant, _KEPT_OUT_S / 60, _WITHIN_S / 60, len(recent),
            )  # fmt: skip
