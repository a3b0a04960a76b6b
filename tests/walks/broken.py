"""An ingress whose policy or mirror raises at every call: what no setting can ask for."""

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


INGRESSES = {"policy": WithBrokenPolicy, "mirror": WithBrokenMirror}


def build_broken(what: str, settings: Settings) -> serve.Application:
    """The application with one part of its routers broken."""
    return compose(settings, INGRESSES[what])
