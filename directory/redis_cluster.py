"""The nodes of a Redis Cluster: connections to each, and the map of who keeps which slots.

redis-py's own RedisCluster closes the connections of all nodes, those in use included, when one node says
CLUSTERDOWN; here a dead or slow node costs only the keys it keeps.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, NoScriptError, RedisError

from .redis_node import Argument

Address = tuple[str, int]

_ASK_S = 0.5  # the longest wait for one node's map; then the next node is asked
_HOPS = 4  # a node that was moved to may know of a later move


class ClusterNode(Protocol):
    """What is asked of each node; see `redis_node.Node`."""

    async def send(self, *command: Argument) -> Any: ...  # Any: a reply's shape is the command's own

    async def send_asking(self, *command: Argument) -> Any: ...  # Any: likewise

    async def aclose(self) -> None: ...


class ClusterNodes:
    """Goes where it is sent (MOVED, ASK), and asks for the map anew before it turns again to a node that failed."""

    def __init__(self, seeds: Sequence[Address], connect: Callable[[str, int], ClusterNode]) -> None:
        self._seeds = seeds
        self._connect = connect
        self._nodes: dict[Address, ClusterNode] = {}
        self._slots: list[tuple[range, Address]] = []
        self._known: Sequence[Address] = seeds  # replicas too: they tell the map as well as any
        self._doubted: set[Address] = set()  # what the map says of these may be over
        self._asking = asyncio.Lock()

    async def send(self, key: str, *command: Argument) -> Any:  # Any: see redis_node.Nodes
        address, asking = await self._keeper(key_slot(key.encode())), False
        for _ in range(_HOPS):
            node = self._node(address)
            try:
                return await (node.send_asking(*command) if asking else node.send(*command))
            except AskError as exc:  # nothing was done there, so it may be sent again; MovedError is one too
                asking = not isinstance(exc, MovedError)
                if not asking:
                    self._doubted.add(address)
                address = (exc.host or address[0], exc.port)
            except NoScriptError:
                raise
            except BaseException:  # a cancellation too: it may come from whoever waited for a hung node in vain
                self._doubted.add(address)
                raise
        raise ClusterDownError(f"CLUSTERDOWN sent on {_HOPS} times, at last to {address}")

    async def where(self, key: str) -> str:
        host, port = await self._keeper(key_slot(key.encode()))
        return f"{host}:{port}"

    async def aclose(self) -> None:
        for node in self._nodes.values():
            await node.aclose()

    async def _keeper(self, slot: int) -> Address:
        address = self._mapped(slot)
        if address is None or address in self._doubted:
            async with self._asking:
                address = self._mapped(slot)
                if address is None or address in self._doubted:  # nobody asked while this one waited
                    await self._ask()
                    address = self._mapped(slot)
        if address is None:
            raise ClusterDownError(f"CLUSTERDOWN no node keeps slot {slot}")
        return address

    def _mapped(self, slot: int) -> Address | None:
        return next((address for slots, address in self._slots if slot in slots), None)

    async def _ask(self) -> None:
        """Take the map of the first node that answers; if none does, the last map stays in use."""
        failures: list[Exception] = []
        for address in sorted(self._known, key=self._doubted.__contains__):
            try:
                async with asyncio.timeout(_ASK_S):
                    reply = await self._node(address).send("CLUSTER", "SLOTS")
            except (RedisError, OSError) as exc:
                failures.append(exc)
                self._doubted.add(address)
                continue
            if reply:  # a node that has been put out of the cluster knows of no slots
                await self._take(reply, address)
                return
        if not self._slots and failures:
            raise failures[0]

    async def _take(self, reply: Sequence[Any], asked: Address) -> None:  # Any: a reply of mixed parts
        kept = [[_address(node, asked) for node in entry[2:]] for entry in reply]
        self._slots = [(range(entry[0], entry[1] + 1), nodes[0]) for entry, nodes in zip(reply, kept, strict=True)]
        self._known = list(dict.fromkeys((asked, *(node for nodes in kept for node in nodes), *self._seeds)))
        self._doubted.clear()
        for address in self._nodes.keys() - set(self._known):
            await self._nodes.pop(address).aclose()

    def _node(self, address: Address) -> ClusterNode:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = self._connect(*address)
        return node


def _address(node: Sequence[Any], asked: Address) -> Address:  # Any: a reply of mixed parts
    """A node in CLUSTER SLOTS: host, port, and more. One may not know its own host."""
    return (node[0].decode() if node[0] else asked[0]), node[1]
