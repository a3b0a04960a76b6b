"""A Redis Cluster of real servers, each primary with a replica, for tests that move slots and kill nodes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from redis.crc import key_slot
from redis.exceptions import RedisError

from kvplane.tests.servers import HOST, Server, eventually

_SLOTS = 16384
_NODE_TIMEOUT_MS = 1000


class Cluster:
    """Three primaries and three replicas. `heal` brings back all that a test broke."""

    def __init__(self, folder: Path) -> None:
        self.nodes = [_node(folder / f"node-{number}") for number in range(6)]

    def __enter__(self) -> "Cluster":
        for node in self.nodes:
            node.start()
        first, half = self.nodes[0], len(self.nodes) // 2
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < half:
                bounds = [_SLOTS * at // half for at in (number, number + 1)]
                node.ask("CLUSTER", "ADDSLOTSRANGE", bounds[0], bounds[1] - 1)
            if node is not first:
                first.ask("CLUSTER", "MEET", HOST, node.port, node.bus_port)
        eventually(lambda: all(len(lines_of(node)) == len(self.nodes) for node in self.nodes))
        for primary, replica in zip(self.nodes[:half], self.nodes[half:], strict=True):
            replica.ask("CLUSTER", "REPLICATE", id_of(primary))
        eventually(self.whole)
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.kill()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes[:3])

    def keeper(self, key: str) -> Server:
        """The node that keeps a key's slot, as a node that is up says."""
        for node in self.nodes:
            try:
                slots: Any = node.ask("CLUSTER", "SLOTS")  # Any: a reply of mixed parts
            except (RedisError, OSError):
                continue
            for first, last, primary, *_ in slots:
                if first <= key_slot(key.encode()) <= last:
                    return self._at(primary[1])
        raise LookupError(f"no node that is up knows who keeps {key}")

    def replica_of(self, primary: Server) -> Server:
        """A node that follows a primary."""
        mine = id_of(primary)
        [port] = [_port(line) for line in lines_of(primary) if line[3] == mine and "slave" in line[2]]
        return self._at(port)

    def others(self, *nodes: Server) -> Sequence[Server]:
        """The primaries besides these."""
        return [node for node in self.nodes if node not in nodes and is_primary(node)]

    def heal(self) -> None:
        """Let all run, none be full, and every primary have a replica that is up to date."""
        for node in self.nodes:
            if node.process is None:
                node.start()
            node.thaw()
        eventually(self.whole)

    def whole(self) -> bool:
        return all(map(_is_settled, self.nodes)) and sum(map(is_primary, self.nodes)) == len(self.nodes) // 2

    def _at(self, port: int) -> Server:
        return next(node for node in self.nodes if node.port == port)


class Reshard:
    """One slot on its way from the node that keeps it to another, in the steps of `redis-cli --cluster reshard`."""

    def __init__(self, slot: int, source: Server, target: Server) -> None:
        self.slot = slot
        self._source = source
        self._target = target

    def begin(self) -> None:
        self._target.ask("CLUSTER", "SETSLOT", self.slot, "IMPORTING", id_of(self._source))
        self._source.ask("CLUSTER", "SETSLOT", self.slot, "MIGRATING", id_of(self._target))

    def move(self, *keys: str) -> None:
        self._source.ask("MIGRATE", HOST, self._target.port, "", 0, 5000, "KEYS", *keys)

    def left(self) -> list[str]:
        """What is still at the source."""
        found: Any = self._source.ask("CLUSTER", "GETKEYSINSLOT", self.slot, 1000)  # Any: a reply's shape is its own
        return list(found)

    def end(self, others: Sequence[Server]) -> None:
        """Move the rest, and tell who keeps the slot from here on."""
        while keys := self.left():
            self.move(*keys)
        for node in (self._target, self._source, *others):
            node.ask("CLUSTER", "SETSLOT", self.slot, "NODE", id_of(self._target))


def lines_of(node: Server) -> list[list[str]]:
    """What a node knows of each node: id, address, flags, primary and so on."""
    with node.client() as client:
        client.set_response_callback("CLUSTER NODES", str)
        known: str = client.execute_command("CLUSTER NODES")
    return [line.split() for line in known.splitlines()]


def id_of(node: Server) -> str:
    return str(node.ask("CLUSTER", "MYID"))


def is_primary(node: Server) -> bool:
    """Whether a node takes itself for one; False for a node that does not answer."""
    return _held(lambda: next("master" in line[2] for line in lines_of(node) if "myself" in line[2]))


def _is_settled(node: Server) -> bool:
    """It finds all slots kept and no node failing, and as a replica it has all of its primary."""

    def settled() -> bool:
        info = str(node.ask("CLUSTER", "INFO"))
        failing = any("fail" in line[2] or "handshake" in line[2] for line in lines_of(node))
        with node.client() as client:
            linked = client.info("replication").get("master_link_status", "up")
        return "cluster_state:ok" in info and not failing and bool(linked == "up")

    return _held(settled)


def _held(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except (RedisError, OSError):
        return False


def _port(line: Sequence[str]) -> int:
    return int(line[1].partition("@")[0].rpartition(":")[2])


def _node(folder: Path) -> Server:
    node = Server(
        folder,
        *("--cluster-enabled", "yes"),
        *("--cluster-node-timeout", str(_NODE_TIMEOUT_MS)),
        *("--cluster-require-full-coverage", "no"),
        *("--cluster-allow-replica-migration", "no"),
        *("--cluster-replica-validity-factor", "0"),
        *("--repl-diskless-sync-delay", "0"),
        *("--appendonly", "no"),
    )
    node.options += ("--cluster-port", str(node.bus_port))
    return node
