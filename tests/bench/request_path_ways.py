"""One request's way through a router, up to its ticket and at its end: without accounts, and through them."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from kvplane.controlplane.accounts import BookReader, Caller
from kvplane.controlplane.decide import Asked
from kvplane.controlplane.decision import Decision
from kvplane.controlplane.errors import ApiError
from kvplane.controlplane.gate import Gate
from kvplane.controlplane.limits import Admission
from kvplane.controlplane.openai import Completion
from kvplane.controlplane.scope import affinity_of, part_of
from kvplane.directory import Domain
from kvplane.directory.wire import Served
from kvplane.workers import Ticket

from .decide_fleet import MAX_TOKENS, Fleet
from .errors import BenchError
from .forest import Prompt
from .request_path_tenants import Sender

OUTPUT_TOKENS = MAX_TOKENS // 2

_DOMAIN = Domain("acme", "default")
_TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


class Laps:
    """What each part of one request took, its round trips, and whether it waited: for its own or for another's."""

    def __init__(self, trips: Callable[[], int]) -> None:
        self.took_us: dict[str, float] = {}
        self.trips: dict[str, int] = {}
        self.waited: dict[str, bool] = {}
        self._trips = trips
        self.go_on()

    def go_on(self) -> None:
        """What follows is measured; what was since the last part is not."""
        self._loop_went_on = False
        self._handle = asyncio.get_running_loop().call_soon(self._note)
        self._trips_before, self._began_ns = self._trips(), time.perf_counter_ns()

    def lap(self, part: str) -> None:
        """A part has ended."""
        self.took_us[part] = (time.perf_counter_ns() - self._began_ns) / 1e3
        self.trips[part] = self._trips() - self._trips_before
        self.waited[part] = self._loop_went_on
        self._handle.cancel()
        self.go_on()

    def _note(self) -> None:
        self._loop_went_on = True


@dataclass(frozen=True, slots=True)
class Placed:
    """A request that has its ticket."""

    laps: Laps
    decision: Decision
    ticket: Ticket
    caller: Caller | None = None
    admission: Admission | None = None


class Way(Protocol):
    """How a router takes a request in, and what it does when that ends."""

    async def place(self, sender: Sender, prompt: Prompt) -> Placed: ...

    async def end(self, placed: Placed) -> None: ...


@dataclass(frozen=True, slots=True)
class Without:
    """One domain for all, and no gate."""

    fleet: Fleet

    async def place(self, sender: Sender, prompt: Prompt) -> Placed:
        laps = Laps(lambda: 0)
        asked = Asked(_DOMAIN, prompt.words, MAX_TOKENS, traceparent=None, deadline_s=0.0)
        return Placed(laps, *_decided(self.fleet, asked, laps))

    async def end(self, placed: Placed) -> None:
        """There is nothing to settle."""


@dataclass(frozen=True, slots=True)
class Through:
    """Keys, rules and limits, as the ingress goes through them."""

    fleet: Fleet
    book: BookReader
    gate: Gate
    trips: Callable[[], int] = field(default=lambda: 0)

    async def place(self, sender: Sender, prompt: Prompt) -> Placed:
        """Raises `BenchError` for a request that is not let in, or may not write what it would."""
        asking = Completion(model="bench", prompt="", user=sender.user, prompt_cache_key=sender.user)
        tokens = len(prompt.words) // 4
        laps = Laps(self.trips)
        caller = self.book.caller(sender.key)
        laps.lap("caller")
        if caller is None:
            raise BenchError(f"nobody has the key {sender.key}")
        try:
            admission = await self.gate.admit(caller, tokens, MAX_TOKENS)
            laps.lap("admit")
            domain = caller.within(part_of(caller, asking)).domain
            affinity = affinity_of(domain, asking.prompt_cache_key)
            laps.lap("scope")
            budget = await self.gate.budget(caller, tokens, MAX_TOKENS)
            laps.lap("budget")
            asked = Asked(domain, prompt.words, MAX_TOKENS, None, 0.0, affinity, budget)
            if budget is not None:
                await budget.appeal(self.fleet.decider.held_tokens(asked))
            laps.lap("appeal")
            decision, ticket = _decided(self.fleet, asked, laps)
        except ApiError as exc:
            raise BenchError(f"a limit refuses what it should let in: {exc}") from exc
        if decision.over_limit is not None:
            raise BenchError(f"a limit lets nothing be written: {decision.reason}")
        return Placed(laps, decision, ticket, caller, admission)

    async def end(self, placed: Placed) -> None:
        """What the answer says of limits, and what the request did not use given back."""
        served, laps = _served(placed.decision), placed.laps
        assert placed.caller is not None, "this way has let it in"
        assert placed.admission is not None, "this way has let it in"
        laps.go_on()
        self.gate.headers(placed.caller)
        laps.lap("headers")
        self.gate.settle(served)
        placed.admission.settle(served.prompt_tokens + served.output_tokens)
        await placed.admission.close()
        laps.lap("end")


def _decided(fleet: Fleet, asked: Asked, laps: Laps) -> tuple[Decision, Ticket]:
    laps.go_on()
    decision = fleet.decider.decide(asked)
    laps.lap("decide")
    ticket = fleet.decider.issue(decision, asked, _TRACEPARENT)
    laps.lap("issue")
    fleet.end(ticket)
    return decision, ticket


def _served(decision: Decision) -> Served:
    return Served(
        decision=decision.id,
        router=decision.router,
        finish="stop",
        prompt_tokens=decision.request.prompt_tokens,
        cached_tokens=decision.predicted_cached_tokens,
        output_tokens=OUTPUT_TOKENS,
        queue_ms=0.0,
        prefill_ms=0.0,
        total_ms=0.0,
    )
