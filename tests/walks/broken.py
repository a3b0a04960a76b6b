"""Parts that break on purpose: a policy or a mirror that raises at every call, an engine that dies when told to."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import NoReturn

from ray import serve

from kvplane.controlplane.app import compose
from kvplane.controlplane.config import Settings
from kvplane.controlplane.ingress import Ingress
from kvplane.controlplane.registrar import RouterGrant
from kvplane.policies import Candidate, RoutedRequest
from kvplane.workers import Replica


class BrokenPolicy:
    """A policy that cannot."""

    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> NoReturn:
        raise RuntimeError("this policy is broken")

    def learn(self, choice: object, outcome: object) -> NoReturn:
        raise RuntimeError("this policy is broken")


class WithBrokenPolicy(Ingress):
    async def _open(self, grant: RouterGrant, stack: AsyncExitStack, tasks: asyncio.TaskGroup) -> None:
        await super()._open(grant, stack, tasks)
        self._decider._policy = BrokenPolicy()


class WithBrokenMirror(Ingress):
    async def _open(self, grant: RouterGrant, stack: AsyncExitStack, tasks: asyncio.TaskGroup) -> None:
        await super()._open(grant, stack, tasks)
        for part, verb in ((self._mirror, "seen"), (self._holdings, "find")):
            setattr(part, verb, _raise)


def _raise(_: object) -> NoReturn:
    raise RuntimeError("this mirror is broken")


class MortalReplica(Replica):
    """Its engine can be made to die at its next step."""

    def break_engine(self) -> None:
        self._engine._steps.compute = _compute  # type: ignore[attr-defined]  # the embedded engine's own part


async def _compute(_: object) -> NoReturn:
    raise RuntimeError("this engine is broken")


INGRESSES = {"policy": WithBrokenPolicy, "mirror": WithBrokenMirror}


def build_broken(what: str, settings: Settings) -> serve.Application:
    """The application with one part of its routers broken."""
    return compose(settings, INGRESSES[what], Replica)


def build_mortal(settings: Settings) -> serve.Application:
    """The application with replicas whose engine can be broken."""
    return compose(settings, Ingress, MortalReplica)
