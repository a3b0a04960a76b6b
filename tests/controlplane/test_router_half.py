"""A request that fails on one replica goes on elsewhere, before its first token or after; nobody waits for ever."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest

from kvplane.controlplane import router_half
from kvplane.controlplane.decide import Asked
from kvplane.controlplane.decision import Decision
from kvplane.controlplane.errors import Overloaded, TimedOut
from kvplane.controlplane.router_half import (
    Answering,
    Attempt,
    EngineLost,
    ReplicaBusier,
    ReplicaGone,
    ReplicaUnwell,
    RouterHalf,
)
from kvplane.directory import HolderId, Load
from kvplane.policies import RoundRobin
from kvplane.tests.routers import TRACEPARENT, Router, asked, router, words
from kvplane.workers import Delta, Ending, Sampling, Ticket, Usage

DOWN = bool(1)
SAMPLING = Sampling(max_tokens=4)
Behaviour = Callable[[], AsyncGenerator[Delta, None]]


def delta(finish: str | None = None) -> Delta:
    return Delta((1,), 0, 1.0, 2.0, finish)  # type: ignore[arg-type]


async def well() -> AsyncGenerator[Delta, None]:
    yield delta()
    yield delta("stop")


async def gone() -> AsyncGenerator[Delta, None]:
    if DOWN:
        raise ReplicaGone("killed")
    yield delta()


async def unwell() -> AsyncGenerator[Delta, None]:
    if DOWN:
        raise ReplicaUnwell("engine dead")
    yield delta()


async def kills() -> AsyncGenerator[Delta, None]:
    if DOWN:
        raise EngineLost("engine dead")
    yield delta()


async def dies_when_done() -> AsyncGenerator[Delta, None]:
    yield delta()
    yield delta("stop")
    raise ReplicaGone("killed when all was said")


async def stalls() -> AsyncGenerator[Delta, None]:
    yield delta()
    await asyncio.Event().wait()


async def silent() -> AsyncGenerator[Delta, None]:
    await asyncio.Event().wait()
    yield delta()


async def busier() -> AsyncGenerator[Delta, None]:
    if DOWN:
        raise ReplicaBusier(Load(waiting_prefill_tokens=900))
    yield delta()


async def breaks_off() -> AsyncGenerator[Delta, None]:
    yield Delta((7,), 0, 1.0, 2.0)
    raise ReplicaGone("killed while streaming")


class Fleet:
    """A transport to replicas that each behave in one way."""

    def __init__(self, made: Router, **behaviours: Behaviour) -> None:
        self._made = made
        self.behaviours = behaviours
        self.sent: list[str] = []
        self.prompts: list[bytes] = []
        self.limits: list[int] = []

    async def __call__(self, ticket: Ticket, prompt: bytes, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        roster = self._made.sight.roster
        replica = next(replica for replica in ticket.ranks if not roster.is_dead(replica))
        self.sent.append(replica)
        self.prompts.append(prompt)
        self.limits.append(sampling.max_tokens)
        roster.sent(ticket.id, replica)
        source = self.behaviours[replica]()
        try:
            async for item in source:
                yield item
        finally:
            await source.aclose()


def half(**behaviours: Behaviour) -> tuple[RouterHalf, Fleet, Router]:
    made = router(RoundRobin(), sorted(behaviours))
    fleet = Fleet(made, **behaviours)
    written: list[Decision] = []

    def record(decision: Decision) -> str:
        written.append(decision)
        return TRACEPARENT

    return RouterHalf(made.decider, fleet, made.sight.roster, record), fleet, made


async def rest(answering: Answering) -> list[Delta]:
    try:
        return [answering.first, *[item async for item in answering.rest]]
    finally:
        await answering.close()


def ongoing(made: Router, *replicas: str) -> int:
    return sum(made.sight.overlay.ongoing(HolderId(replica)) for replica in replicas)


async def test_a_well_replica_answers_and_the_ticket_is_settled() -> None:
    made_half, _fleet, made = half(a=well)
    answering = await made_half.answer(asked(words(1, 2)), SAMPLING)

    assert ongoing(made, "a") == 1
    assert [item.finish for item in await rest(answering)] == [None, "stop"]
    assert ongoing(made, "a") == 0
    assert made_half.repeats == 0


async def test_a_replica_that_is_gone_is_buried_and_the_request_repeated_elsewhere() -> None:
    made_half, fleet, made = half(a=gone, b=well)
    await rest(await made_half.answer(asked(words(1, 2)), SAMPLING))

    assert fleet.sent == ["a", "b"]
    assert made.sight.roster.live == ("b",)
    assert made_half.repeats == 1


async def test_a_replica_that_is_unwell_stays_on_the_roster() -> None:
    made_half, fleet, made = half(a=unwell, b=well)
    await rest(await made_half.answer(asked(words(1, 2)), SAMPLING))

    assert fleet.sent == ["a", "b"]
    assert made.sight.roster.live == ("a", "b")


async def test_a_fleet_of_unwell_replicas_is_overload_not_a_hang() -> None:
    made_half, fleet, made = half(a=unwell, b=unwell, c=unwell, d=unwell, e=unwell)

    with pytest.raises(Overloaded):
        await made_half.answer(asked(words(1, 2)), SAMPLING)
    assert len(fleet.sent) == 4
    assert ongoing(made, "a", "b", "c", "d", "e") == 0


async def test_a_silent_replica_costs_the_deadline_and_no_more() -> None:
    made_half, _, made = half(a=silent)

    with pytest.raises(TimedOut):
        await made_half.answer(asked(words(1, 2), wait_s=0.05), SAMPLING)
    assert ongoing(made, "a") == 0


async def test_an_answer_that_breaks_off_goes_on_elsewhere_from_its_last_token() -> None:
    made_half, fleet, made = half(a=breaks_off, b=well)
    answering = await made_half.answer(asked(words(1, 2)), SAMPLING)

    assert [item.token_ids for item in await rest(answering)] == [(7,), (1,), (1,)]
    assert fleet.sent == ["a", "b"]
    assert fleet.prompts == [words(1, 2), words(1, 2, 7)]
    assert fleet.limits == [4, 3]
    assert ongoing(made, "a", "b") == 0


async def test_an_answer_that_is_whole_is_not_sent_again_when_its_replica_dies() -> None:
    made_half, fleet, _ = half(a=dies_when_done, b=well)
    answering = await made_half.answer(asked(words(1, 2)), SAMPLING)

    assert [item.finish for item in await rest(answering)] == [None, "stop"]
    assert fleet.sent == ["a"]


async def test_an_answer_that_stalls_goes_on_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_half, "_STALL_S", 0.05)
    made_half, fleet, _ = half(a=stalls, b=well)
    answering = await made_half.answer(asked(words(1, 2)), SAMPLING)

    assert len(await rest(answering)) == 3
    assert fleet.sent == ["a", "b"]


async def test_a_request_that_kills_two_engines_is_given_up() -> None:
    made_half, fleet, made = half(a=kills, b=kills, c=well)

    with pytest.raises(Overloaded, match="two engines"):
        await made_half.answer(asked(words(1, 2)), SAMPLING)
    assert fleet.sent == ["a", "b"]
    assert made.sight.roster.live == ("b", "c")


async def test_a_client_that_leaves_ends_the_generation() -> None:
    made_half, _fleet, made = half(a=well)
    answering = await made_half.answer(asked(words(1, 2)), SAMPLING)
    await answering.close()

    assert ongoing(made, "a") == 0


async def test_what_a_dead_replica_had_begun_is_billed_before_another_goes_on() -> None:
    made_half, fleet, _ = half(a=breaks_off, b=well)
    billed: list[Usage] = []

    async def bill(attempt: Attempt, ending: Ending) -> None:
        assert fleet.sent == ["a"]
        billed.append(attempt.used("m", 1, ending))

    made_half._bill = bill
    await rest(await made_half.answer(asked(words(1, 2)), SAMPLING))

    assert fleet.sent == ["a", "b"]
    [used] = billed
    assert (used.attempt, used.prompt_tokens, used.output_tokens) == (0, 2, 1)
    assert (used.finish, used.observed, used.tenant) == ("interrupted", True, "acme/default")


async def test_an_answer_that_its_client_has_whole_is_billed_as_it_came_and_its_generation_ended() -> None:
    made_half, _, made = half(a=breaks_off, b=stalls)
    billed: list[tuple[int, int, int, str, int]] = []

    async def bill(attempt: Attempt, ending: Ending) -> None:
        billed.append((attempt.ticket.attempt, attempt.prompt, attempt.output, ending, ongoing(made, "a", "b")))

    made_half._bill = bill
    answering = await made_half.answer(asked(words(1, 2)), SAMPLING)
    await anext(answering.rest)
    await answering.stop()
    await answering.close()

    assert billed == [(0, 2, 1, "interrupted", 1), (1, 3, 1, "stop", 0)]
    assert [item async for item in answering.rest] == []


async def test_a_replica_that_declines_has_the_request_decided_again_and_placed_once() -> None:
    made_half, fleet, made = half(a=busier, b=well)
    placed: list[Decision] = []
    declined: list[Ticket] = []
    made_half._declined = declined.append
    answering = await made_half.answer(asked(words(1, 2)), SAMPLING, placed.append)

    assert fleet.sent == ["a", "b"]
    assert (ongoing(made, "a"), ongoing(made, "b")) == (0, 1)
    assert made.decider.awaiting == 1
    assert [decision.id for decision in placed] == [ticket.id for ticket in declined] != [answering.decision.id]
    assert (made_half.declines, made_half.repeats) == (1, 0)


async def test_where_all_decline_the_last_ticket_is_one_that_none_may() -> None:
    made_half, fleet, made = half(a=busier)
    firm: list[bool] = []
    issue = made.decider.issue

    def noting(decision: Decision, request: Asked, traceparent: str, is_firm: bool = False) -> Ticket:
        firm.append(is_firm)
        fleet.behaviours["a"] = well if is_firm else busier
        return issue(decision, request, traceparent, is_firm)

    made.decider.issue = noting  # type: ignore[assignment]
    await rest(await made_half.answer(asked(words(1, 2)), SAMPLING))

    assert firm == [False] * 15 + [True]
