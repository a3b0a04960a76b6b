"""A router adds to a published load what that load cannot know of yet, and nothing twice."""

from kvplane.directory import Load, Overlay, holder_id

ONE, TWO = holder_id("one"), holder_id("two")


def test_own_tickets_count_until_the_replica_counts_them() -> None:
    overlay = Overlay("router-a")
    first = overlay.issue(ONE, 100, 7)
    second = overlay.issue(ONE, 10, 2)

    none_counted = overlay.load(ONE, Load(waiting_prefill_tokens=5, decode_blocks=1))
    one_counted = overlay.load(ONE, Load(waiting_prefill_tokens=105, counted={"router-a": first}))
    both_counted = overlay.load(ONE, Load(waiting_prefill_tokens=115, counted={"router-a": second}))

    assert first < second
    assert (none_counted.waiting_prefill_tokens, none_counted.decode_blocks) == (115, 10)
    assert (one_counted.waiting_prefill_tokens, one_counted.decode_blocks) == (115, 2)
    assert both_counted.waiting_prefill_tokens == 115


def test_another_routers_count_says_nothing_of_mine() -> None:
    overlay = Overlay("router-a")
    overlay.issue(ONE, 100, 0)

    assert overlay.load(ONE, Load(counted={"router-b": 99})).waiting_prefill_tokens == 100


def test_tickets_weigh_on_their_own_holder_only() -> None:
    overlay = Overlay("router-a")
    overlay.issue(ONE, 100, 0)

    assert overlay.load(TWO, Load()) == Load()
    assert (overlay.ongoing(ONE), overlay.ongoing(TWO)) == (1, 0)


def test_a_ticket_that_has_ended_weighs_nothing_and_ends_once() -> None:
    overlay = Overlay("router-a")
    number = overlay.issue(ONE, 100, 3)
    overlay.issue(ONE, 1, 1)

    overlay.settle(number)
    overlay.settle(number)

    assert overlay.load(ONE, Load()).waiting_prefill_tokens == 1
    assert overlay.ongoing(ONE) == 1
