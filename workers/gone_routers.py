"""Which routers are gone: nobody will have what is still generated for them, and Ray goes on with it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

import ray
from ray.exceptions import RayError

log = logging.getLogger(__name__)

_LOOK_S = 0.5


class GoneRouters:
    """Those that were alive and are no more; `run` looks at first, then again and again while any is asked about."""

    def __init__(self, alive: Callable[[], Awaitable[Collection[str]]]) -> None:
        self._alive = alive
        self._asked = True  # since the last look
        self._seen: frozenset[str] = frozenset()
        self._gone: frozenset[str] = frozenset()

    def __contains__(self, router: object) -> bool:
        self._asked = True
        return router in self._gone

    async def run(self) -> None:
        """Without end."""
        while True:
            if self._asked:
                await self.look()
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Once. One that has never been seen alive is not known to be gone."""
        self._asked = False
        try:
            alive = frozenset(await self._alive())
        except (RayError, OSError) as exc:
            log.warning("whether routers are gone is not known for now: %s", exc)
            return
        self._gone = (self._gone | self._seen) - alive
        self._seen = alive


async def serve_processes() -> Collection[str]:
    """The ids of all processes of Serve on this Ray; takes about a millisecond."""
    actors = await asyncio.to_thread(ray.util.list_named_actors, all_namespaces=True)
    return [actor["name"].rpartition("#")[2] for actor in actors]
