"""Replicas that are gone leave their users in embedded servers, where they would gather for ever: they are deleted."""

import asyncio
import logging
import time
from collections.abc import Callable

from .connect import DirectorySettings, open_client
from .embedded import EmbeddedShards
from .errors import BadMessage, PagesDown
from .ids import HolderId
from .redis_client import RedisClient
from .redis_keys import page_keys
from .roles import user_of

log = logging.getLogger(__name__)

_LOOK_S = 60.0
GONE_S = 3600.0  # a replica may load its model for long before it has a page
_USER = f"{user_of('replica').name}-"


class Departed:
    """Knows since when which replicas have had no page; `run` revokes those that had none for an hour."""

    def __init__(
        self, shards: EmbeddedShards, settings: DirectorySettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shards = shards
        self._settings = settings
        self._clock = clock
        self._since: dict[HolderId, float] = {}

    async def run(self) -> None:
        """Without end."""
        async with open_client(self._shards.url, self._settings) as client:
            while True:
                await asyncio.sleep(_LOOK_S)
                await self.look(client)

    async def look(self, client: RedisClient) -> None:
        """Once. While a shard is down, nobody of whom it would have to be asked is gone."""
        try:
            users = [name.decode() for name in await client.call(_USER, "ACL", "USERS")]
        except (PagesDown, BadMessage) as exc:
            log.warning("users of replicas that are gone stay for now: %s", exc)
            return
        holders = [HolderId(name.removeprefix(_USER)) for name in users if name.startswith(_USER)]
        self._since = {holder: self._since.get(holder, self._clock()) for holder in holders}
        for holder in holders:
            is_gone = not await self._may_live(client, holder)
            if is_gone and self._clock() - self._since[holder] < GONE_S:
                continue
            del self._since[holder]
            if is_gone:
                await self._shards.revoke_replica(holder, self._settings.shards)

    async def _may_live(self, client: RedisClient, holder: HolderId) -> bool:
        key = page_keys(holder, self._settings.shards).head
        try:
            return bool(await client.call(key, "EXISTS", key))
        except (PagesDown, BadMessage):
            return True
