"""The first word with the replicas: what one can hold, and how long a prompt it takes."""

import asyncio
import logging
import time

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from ..workers import Capacity
from .config import Settings
from .errors import Overloaded
from .misfit import misfit

log = logging.getLogger(__name__)

_MEET_S = 10.0


class Meeting:
    """One router's. All replicas of an application are alike, so one speaks for all."""

    def __init__(self, settings: Settings, replicas: DeploymentHandle) -> None:
        self._settings = settings
        self._replicas = replicas
        self._met = asyncio.Event()
        self.met_at = 0.0  # on the monotonic clock
        self.capacity: Capacity | None = None

    async def run(self) -> None:
        """Ask any replica for its capacity; the first call also makes Ray tell the seam who is alive."""
        while self.capacity is None:
            try:
                self.capacity = await self._replicas.capacity.remote()
            except (RayError, RayServeException) as exc:
                log.warning("no replica has answered yet: %s", exc)
                await asyncio.sleep(1)
        if (why := self.misfit) is not None:
            log.error("%s", why)
        self.met_at = time.monotonic()
        self._met.set()

    async def known(self) -> Capacity:
        """The capacity, once it is known. Raises `Overloaded` where that takes too long."""
        try:
            async with asyncio.timeout(_MEET_S):
                await self._met.wait()
        except TimeoutError as exc:
            raise Overloaded("no replica is ready yet; try again later") from exc
        assert self.capacity is not None, "the replicas have been met"
        return self.capacity

    @property
    def misfit(self) -> str | None:
        """Why the fleet at its worst does not fit a router's mirror."""
        return None if self.capacity is None else misfit(self._settings, self.capacity.blocks)
