"""The nodes of a Redis Cluster: a plain client for each, and the map of who keeps which slots.

redis-py's own RedisCluster closes the connections of all nodes, those in use included, when one node says
CLUSTERDOWN; here a dead node costs only the keys it keeps.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, MovedError, NoScriptError, RedisError

from .redis_client import Argument

Address = tuple[str, int]

_ASK_S = 0.5  # the longest wait for one node's map; then the next node is asked


class ClusterNodes:
    """Asks for the map anew after any failure. A slot on its way to another node counts as down until it is there."""

    def __init__(self, seeds: Sequence[Address], connect: Callable[[str, int], Redis]) -> None:
        self._seeds = list(seeds)
        self._connect = connect
        self._clients: dict[Address, Redis] = {}
        self._slots: list[tuple[range, Address]] = []
        self._stale = True
        self._asking = asyncio.Lock()

    async def send(self, key: str, *command: Argument) -> Any:  # Any: see Nodes
        try:
            try:
                return await (await self._keeper(key)).execute_command(*command)
            except MovedError:  # nothing was done there, so it may be sent again
                self._stale = True
                return await (await self._keeper(key)).execute_command(*command)
        except NoScriptError:
            raise
        except BaseException:  # a cancellation too: it may come from whoever waited for a hung node in vain
            self._stale = True
            raise

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()

    async def _keeper(self, key: str) -> Redis:
        if self._stale:
            async with self._asking:
                if self._stale:  # nobody asked while this one waited
                    await self._ask()
        slot = key_slot(key.encode())
        for slots, address in self._slots:
            if slot in slots:
                return self._client(address)
        raise ClusterDownError(f"CLUSTERDOWN no node keeps slot {slot}")

    async def _ask(self) -> None:
        """Take the map of the first node that answers; if none does, the last map stays in use."""
        failures: list[Exception] = []
        for address in self._addresses():
            try:
                async with asyncio.timeout(_ASK_S):
                    reply = await self._client(address).execute_command("CLUSTER SLOTS")
            except (RedisError, OSError) as exc:
                failures.append(exc)
                self._seeds = [*(seed for seed in self._seeds if seed != address), address]  # asked last from here on
                continue
            self._slots = [_keeps(entry, address) for entry in reply]
            self._stale = False
            return
        if not self._slots:
            raise failures[0]

    def _addresses(self) -> Sequence[Address]:
        return list(dict.fromkeys((*self._seeds, *(address for _, address in self._slots))))

    def _client(self, address: Address) -> Redis:
        client = self._clients.get(address)
        if client is None:
            client = self._clients[address] = self._connect(*address)
        return client


def _keeps(entry: Sequence[Any], asked: Address) -> tuple[range, Address]:  # Any: a reply of mixed parts
    """One entry of CLUSTER SLOTS: first slot, last slot, primary, replicas. A node may not know its own host."""
    first, last, primary = entry[0], entry[1], entry[2]
    host = primary[0].decode() if primary[0] else asked[0]
    return range(first, last + 1), (host, primary[1])
