"""Every process of a deployment, asked or told something at once."""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from ..directory import Account, HolderId
from .directory_report import MirrorReport
from .directory_verify import Mirrored

log = logging.getLogger(__name__)

_PATIENCE_S = 5.0


class ServeFleet:
    """The replicas and the routers of one application on Serve; those that do not answer are missing."""

    def __init__(self, replicas: DeploymentHandle, routers: DeploymentHandle) -> None:
        self._replicas = replicas
        self._routers = routers

    async def accounts(self, holders: Collection[HolderId]) -> Sequence[Account]:
        """What these replicas say they hold."""
        return [account for account in await _answers(self._replicas, "holding", tuple(holders)) if account is not None]

    async def mirrored(self, holders: Collection[HolderId]) -> Sequence[Mirrored]:
        """What each router's mirror has of them."""
        return await _answers(self._routers, "mirrored", tuple(holders))

    async def mirrors(self) -> Sequence[MirrorReport]:
        """How each router's mirror does."""
        return await _answers(self._routers, "mirror_report")

    async def rewrite(self, holders: Collection[HolderId]) -> None:
        """Have replicas write their pages anew."""
        await _answers(self._replicas, "rewrite", tuple(holders))

    async def reload(self, wanted: Mapping[str, Collection[HolderId]]) -> None:
        """Have routers, by name, read pages anew."""
        await _answers(self._routers, "reload", {router: tuple(holders) for router, holders in wanted.items()})


async def told(deployment: DeploymentHandle, method: str) -> list[object]:
    """The answer of every process, as plain values; of one that is ending, why it cannot tell."""
    try:
        answers = await deployment.broadcast(method).results_async()
    except (RayError, RayServeException) as exc:
        return [{"error": str(exc).splitlines()[0]}]
    return [msgspec.to_builtins(answer) for answer in answers]


async def _answers(deployment: DeploymentHandle, method: str, *arguments: object) -> list[Any]:  # Any: the method's own
    broadcast = deployment.broadcast(method, *arguments)
    try:
        answers = await broadcast.results_async(timeout_s=_PATIENCE_S, return_exceptions=True)
    except (RayError, RayServeException, TimeoutError) as exc:
        log.warning("%s: nobody answers: %s", method, exc)
        return []
    for answer in answers:
        if isinstance(answer, BaseException):
            log.warning("%s: one does not answer: %s", method, answer)
    return [answer for answer in answers if not isinstance(answer, BaseException)]
