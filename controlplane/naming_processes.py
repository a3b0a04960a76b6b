"""The processes of one application on Serve, as a rotation of names tells and asks them."""

import logging
from collections.abc import Sequence
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from ..directory.epochs import NameEpochs

log = logging.getLogger(__name__)

_PATIENCE_S = 5.0


class ServeProcesses:
    """Found by the names of their deployments, for the registrar is started before them and has no handle."""

    def __init__(self, application: str, replicas: str = "replicas", routers: str = "routers") -> None:
        # Not looked up now: the registrar is there first.
        self._replicas = serve.get_deployment_handle(replicas, application, _check_exists=False)
        self._routers = serve.get_deployment_handle(routers, application, _check_exists=False)

    async def look_ups(self) -> Sequence[NameEpochs | None] | None:
        return await _answers(self._routers, "name_epochs")

    async def rename(self, epoch: int) -> Sequence[int | None] | None:
        return await _answers(self._replicas, "rename", epoch)


async def _answers(deployment: DeploymentHandle, method: str, *arguments: object) -> list[Any] | None:
    """One for each process; Any: the method's own."""
    try:
        broadcast = deployment.broadcast(method, *arguments)
        answers = await broadcast.results_async(timeout_s=_PATIENCE_S, return_exceptions=True)
    except (RayError, RayServeException, TimeoutError) as exc:
        log.debug("%s: nobody answers: %s", method, exc)
        return None
    return [None if isinstance(answer, BaseException) else answer for answer in answers]
