"""Commands go to who keeps the key, and the map of who keeps what follows the cluster. The nodes here are scripted."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, ConnectionError, MovedError, NoScriptError

from kvplane.directory.redis_cluster import Address, ClusterNodes

A, B = ("a", 1), ("b", 2)
LOW = next(f"{{k{number}}}" for number in range(100) if key_slot(f"{{k{number}}}".encode()) < 8192)
HIGH = next(f"{{k{number}}}" for number in range(100) if key_slot(f"{{k{number}}}".encode()) >= 8192)
HALVES = [[0, 8191, [b"a", 1, b"id"]], [8192, 16383, [b"b", 2, b"id"]]]
ALL_AT_A_ALONE = [[0, 16383, [b"a", 1, b"id"]]]
ALL_AT_A = [[0, 16383, [b"a", 1, b"id"], [b"b", 2, b"replica"]]]


class FakeNode:
    """Answers CLUSTER SLOTS with a map, and anything else with its own name, unless it is to fail."""

    def __init__(self, name: str, slots: list[Any]) -> None:  # Any: a reply of mixed parts
        self.name = name
        self.slots = slots
        self.failures: list[Exception] = []
        self.down = False
        self.asked = 0
        self.closed = False

    async def send(self, *command: object) -> Any:  # Any: a reply of either kind
        await asyncio.sleep(0)
        if self.down:
            raise ConnectionError("down, as the test says")
        if command == ("CLUSTER", "SLOTS"):
            self.asked += 1
            return self.slots
        if self.failures:
            raise self.failures.pop(0)
        return self.name

    async def send_asking(self, *command: object) -> Any:  # Any: likewise
        return f"{await self.send(*command)}, asking"

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def fakes() -> dict[Address, FakeNode]:
    return {A: FakeNode("a", HALVES), B: FakeNode("b", HALVES)}


@pytest.fixture
def nodes(fakes: dict[Address, FakeNode]) -> ClusterNodes:
    connect: Callable[[str, int], FakeNode] = lambda host, port: fakes[host, port]  # noqa: E731 - typed in one line
    return ClusterNodes([A], connect)


async def test_a_command_goes_to_who_keeps_the_key_and_the_map_is_asked_for_once(
    nodes: ClusterNodes, fakes: dict[Address, FakeNode]
) -> None:
    replies = await asyncio.gather(*(nodes.send(key, "GET", key) for key in (LOW, HIGH, LOW)))

    assert replies == ["a", "b", "a"]
    assert (fakes[A].asked, fakes[B].asked) == (1, 0)


async def test_a_command_for_a_slot_that_moved_is_sent_again_there(
    nodes: ClusterNodes, fakes: dict[Address, FakeNode]
) -> None:
    await nodes.send(HIGH, "GET", HIGH)
    fakes[A].slots = ALL_AT_A
    fakes[B].failures = [MovedError("12000 a:1")]

    assert await nodes.send(HIGH, "GET", HIGH) == "a"


async def test_a_command_for_a_slot_that_moves_is_sent_on_this_once(
    nodes: ClusterNodes, fakes: dict[Address, FakeNode]
) -> None:
    fakes[B].failures = [AskError("12000 a:1")]

    assert await nodes.send(HIGH, "GET", HIGH) == "a, asking"
    assert await nodes.send(HIGH, "GET", HIGH) == "b"
    assert fakes[A].asked == 1


async def test_nodes_that_send_on_without_end_are_not_followed_without_end(
    nodes: ClusterNodes, fakes: dict[Address, FakeNode]
) -> None:
    fakes[A].failures = [MovedError("12000 b:2")] * 9
    fakes[B].failures = [MovedError("12000 a:1")] * 9

    with pytest.raises(ClusterDownError, match="sent on 4 times"):
        await nodes.send(HIGH, "GET", HIGH)


async def test_while_a_node_fails_commands_for_others_wait_for_nothing(
    nodes: ClusterNodes, fakes: dict[Address, FakeNode]
) -> None:
    await nodes.send(LOW, "GET", LOW)
    fakes[A].down = True
    with pytest.raises(ConnectionError):
        await nodes.send(LOW, "GET", LOW)

    await nodes.send(HIGH, "GET", HIGH)

    assert fakes[B].asked == 0


async def test_a_node_that_was_put_out_of_the_cluster_does_not_tell_the_map(
    nodes: ClusterNodes, fakes: dict[Address, FakeNode]
) -> None:
    await nodes.send(LOW, "GET", LOW)
    fakes[B].failures = [MovedError("12000 a:1")]
    await nodes.send(HIGH, "GET", HIGH)
    fakes[A].slots = []

    assert await nodes.send(HIGH, "GET", HIGH) == "b"


async def test_a_node_that_left_the_cluster_is_closed_but_not_one_that_was_named_to_begin_with(
    nodes: ClusterNodes, fakes: dict[Address, FakeNode]
) -> None:
    await nodes.send(HIGH, "GET", HIGH)
    fakes[A].slots = ALL_AT_A_ALONE
    fakes[B].failures = [MovedError("12000 a:1")]
    await nodes.send(HIGH, "GET", HIGH)
    await nodes.send(HIGH, "GET", HIGH)

    assert (fakes[A].closed, fakes[B].closed) == (False, True)


async def test_a_dead_node_costs_its_own_keys_only(nodes: ClusterNodes, fakes: dict[Address, FakeNode]) -> None:
    await nodes.send(LOW, "GET", LOW)
    fakes[A].down = True

    with pytest.raises(ConnectionError):
        await nodes.send(LOW, "GET", LOW)

    assert await nodes.send(HIGH, "GET", HIGH) == "b"
    with pytest.raises(ConnectionError):
        await nodes.send(LOW, "GET", LOW)
    assert fakes[B].asked == 1
    assert not fakes[B].closed


async def test_a_map_that_no_node_gives_leaves_the_last_one_in_use(
    nodes: ClusterNodes, fakes: dict[Address, FakeNode]
) -> None:
    await nodes.send(LOW, "GET", LOW)
    for fake in fakes.values():
        fake.down = True
    with pytest.raises(ConnectionError):
        await nodes.send(LOW, "GET", LOW)
    with pytest.raises(ConnectionError):
        await nodes.send(LOW, "GET", LOW)
    for fake in fakes.values():
        fake.down = False

    assert await nodes.send(LOW, "GET", LOW) == "a"


async def test_a_script_that_is_not_known_says_nothing_against_the_map(
    nodes: ClusterNodes, fakes: dict[Address, FakeNode]
) -> None:
    fakes[A].failures = [NoScriptError("NOSCRIPT")]

    with pytest.raises(NoScriptError):
        await nodes.send(LOW, "EVALSHA", "digest")
    await nodes.send(LOW, "GET", LOW)

    assert fakes[A].asked == 1


async def test_a_slot_that_nobody_keeps_is_down_and_asked_for_again(
    nodes: ClusterNodes, fakes: dict[Address, FakeNode]
) -> None:
    fakes[A].slots = HALVES[:1]

    with pytest.raises(ClusterDownError, match="no node keeps slot"):
        await nodes.send(HIGH, "GET", HIGH)
    fakes[A].slots = HALVES

    assert await nodes.send(HIGH, "GET", HIGH) == "b"


async def test_a_node_that_does_not_know_its_own_host_is_where_it_was_asked(
    nodes: ClusterNodes, fakes: dict[Address, FakeNode]
) -> None:
    fakes[A].slots = [[0, 16383, [b"", 1, b"id"]]]

    assert await nodes.send(HIGH, "GET", HIGH) == "a"


async def test_it_is_known_where_a_key_is(nodes: ClusterNodes) -> None:
    assert (await nodes.where(LOW), await nodes.where(HIGH)) == ("a:1", "b:2")


async def test_closing_closes_every_client(nodes: ClusterNodes, fakes: dict[Address, FakeNode]) -> None:
    await nodes.send(HIGH, "GET", HIGH)

    await nodes.aclose()

    assert (fakes[A].closed, fakes[B].closed) == (True, True)
