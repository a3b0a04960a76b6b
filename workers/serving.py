"""The life of one request on a replica: generated, told of, and billed before its client has the end of it."""

import time
from collections.abc import AsyncGenerator, Callable, Container
from contextlib import aclosing
from typing import Protocol

from ..directory import Served
from ..directory.wire import Finish
from .engine import Delta, Engine, EngineRequest
from .ledger import Ending, Usage
from .ticket import Ticket


class Bills(Protocol):
    """Where usage goes; see `UsageWriter`."""

    async def record(self, usage: Usage) -> None: ...

    def later(self, usage: Usage) -> None: ...


class Serving:
    """Continues prompts on one engine. `told` hears how each went; for routers that are `gone` none goes on."""

    def __init__(
        self,
        model: str,
        engine: Engine,
        bills: Bills,
        told: Callable[[Served], None],
        gone: Container[str] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._model = model
        self._engine = engine
        self._bills = bills
        self._told = told
        self._gone = gone
        self._clock = clock

    async def generate(self, ticket: Ticket, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        """Yield tokens as they come, the last ones once they are billed. Raises `EngineDead`, and `Unservable`."""
        arrived = self._clock()
        ending: Finish = "cancelled"
        last, produced, billed, orphaned = None, 0, False, False
        try:
            async with aclosing(self._engine.generate(request)) as deltas:
                async for delta in deltas:
                    last = delta
                    produced += len(delta.token_ids)
                    if orphaned := ticket.router in self._gone:
                        return
                    ending = delta.finish or ending
                    if delta.finish:
                        await self._bills.record(self._used(ticket, request, ending, last, produced))
                        billed = True
                    yield delta
        except Exception:
            ending = "failed"
            raise
        finally:
            total_ms = (self._clock() - arrived) * 1e3
            self._told(_served(ticket, request, ending, last, produced, total_ms))
            if not billed:
                finish: Ending = "interrupted" if orphaned else ending
                self._bills.later(self._used(ticket, request, finish, last, produced))

    def _used(self, ticket: Ticket, request: EngineRequest, finish: Ending, last: Delta | None, produced: int) -> Usage:
        cached, block_tokens = last.cached_tokens if last else 0, self._engine.capacity().block_tokens
        return Usage.of(ticket, self._model, block_tokens, request.prompt_tokens, cached, produced, finish)


def _served(
    ticket: Ticket, request: EngineRequest, ending: Finish, last: Delta | None, produced: int, total_ms: float
) -> Served:
    return Served(
        decision=ticket.id,
        router=ticket.router,
        finish=ending,
        prompt_tokens=request.prompt_tokens,
        cached_tokens=last.cached_tokens if last else 0,
        output_tokens=produced,
        queue_ms=last.queue_ms if last else total_ms,
        prefill_ms=last.prefill_ms if last else 0.0,
        total_ms=total_ms,
        steps=last.steps if last else 0,
        step_tokens=last.step_tokens if last else 0,
    )
