"""Which routers are at work, from what loads count."""

from kvplane.controlplane.peers import Peers


def test_a_router_that_hears_of_no_other_is_alone() -> None:
    peers = Peers()
    peers.counted({"b": 3})

    assert [peers.turn("b", decision) for decision in (1, 2, 3)] == [-1.0, -1.0, -1.0]


def test_routers_at_work_share_the_replicas_out_in_the_order_of_their_names() -> None:
    turns = []
    for router in "abcd":
        peers = Peers()
        peers.counted({"a": 1, "c": 7})
        peers.counted({"b": 2, "d": 1})
        turns.append(peers.turn(router, 1))

    assert turns == [0.0, 0.25, 0.5, 0.75]


def test_a_router_whose_tickets_are_counted_no_further_is_gone_at_the_second_look() -> None:
    peers = Peers()
    peers.counted({"a": 1, "gone": 5})
    first = peers.turn("b", 1)
    peers.counted({"a": 2, "gone": 5})
    second = peers.turn("b", 2)

    # Of a, b and gone b is the second; of a and b as well.
    assert (first, second) == (1 / 3, 1 / 2)


def test_it_looks_anew_ever_more_rarely() -> None:
    peers = Peers()
    turns = {}
    for decision in range(1, 600):
        peers.counted({"a": decision})
        if decision >= 300:
            peers.counted({"c": decision})
        turns[decision] = peers.turn("b", decision)

    # It looks at decisions 1, 2, 4, ... 256 and 512.
    assert [turns[decision] for decision in (1, 299, 511, 512)] == [1 / 2, 1 / 2, 1 / 2, 1 / 3]


def test_routers_long_gone_are_forgotten() -> None:
    peers = Peers()
    for number in range(5000):
        peers.counted({f"r{number:05}": 1})
        peers.turn("me", number + 1)

    assert len(peers._numbers) <= 1024 + 256
