"""A router adds to what pages say what they cannot know of yet, and nothing twice."""

import pytest

from kvplane.directory import Domain, Keyring, Load, Overlay, Prefix, Segment, domain_key, holder_id

ONE, TWO = holder_id("one"), holder_id("two")
KEY = domain_key(Keyring(b"m" * 32).salt(Domain("acme", "default")), "m", "", 1)
PROMPT = Prefix(bytes(4 * 8), 1, (Segment(KEY, 8),))  # seven blocks, and the token that is always computed


@pytest.fixture
def overlay() -> Overlay:
    return Overlay("router-a", lambda: 0.0)


def test_own_tickets_count_until_the_replica_counts_them(overlay: Overlay) -> None:
    first = overlay.issue(ONE, 100, 7, PROMPT)
    second = overlay.issue(ONE, 10, 2, PROMPT)

    none_counted = overlay.load(ONE, Load(waiting_prefill_tokens=5, decode_blocks=1))
    one_counted = overlay.load(ONE, Load(waiting_prefill_tokens=105, counted={"router-a": first}))
    both_counted = overlay.load(ONE, Load(waiting_prefill_tokens=115, counted={"router-a": second}))

    assert first < second
    assert (none_counted.waiting_prefill_tokens, none_counted.decode_blocks) == (115, 10)
    waiting = [load.waiting_sequences for load in (none_counted, one_counted, both_counted)]
    assert waiting == [2, 1, 0]
    assert (one_counted.waiting_prefill_tokens, one_counted.decode_blocks) == (115, 2)
    assert both_counted.waiting_prefill_tokens == 115


def test_another_routers_count_says_nothing_of_mine(overlay: Overlay) -> None:
    overlay.issue(ONE, 100, 0, PROMPT)

    assert overlay.load(ONE, Load(counted={"router-b": 99})).waiting_prefill_tokens == 100


def test_tickets_weigh_on_their_own_holder_only(overlay: Overlay) -> None:
    overlay.issue(ONE, 100, 0, PROMPT)

    assert overlay.load(TWO, Load()) == Load()
    assert (overlay.ongoing(ONE), overlay.ongoing(TWO)) == (1, 0)


def test_a_ticket_that_has_ended_weighs_nothing_and_ends_once(overlay: Overlay) -> None:
    number = overlay.issue(ONE, 100, 3, PROMPT)
    overlay.issue(ONE, 1, 1, PROMPT)

    overlay.settle(number)
    overlay.settle(number)

    assert overlay.load(ONE, Load()).waiting_prefill_tokens == 1
    assert overlay.ongoing(ONE) == 1


def test_a_ticket_promises_its_prompt_until_one_lag_after_its_end() -> None:
    now = [0.0]
    overlay = Overlay("router-a", lambda: now[0])
    number = overlay.issue(ONE, 8, 8, PROMPT)
    now[0] = 60.0
    under_way = overlay.extents(PROMPT)
    overlay.settle(number)
    ended = overlay.extents(PROMPT)
    now[0] = 62.0

    assert under_way == ended == {ONE: 7}
    assert overlay.extents(PROMPT) == {}


def test_a_ticket_whose_promise_is_void_is_load_all_the_same(overlay: Overlay) -> None:
    number = overlay.issue(ONE, 8, 8, PROMPT)
    overlay.withdraw(number)

    assert overlay.extents(PROMPT) == {}
    assert overlay.load(ONE, Load()).waiting_prefill_tokens == 8


def test_load_is_counted_however_many_promises_are_forgotten(overlay: Overlay) -> None:
    for _ in range(5000):
        overlay.issue(ONE, 1, 0, PROMPT)

    assert overlay.load(ONE, Load()).waiting_prefill_tokens == 5000


def test_who_watches_is_told_of_each_holder_whose_tickets_change(overlay: Overlay) -> None:
    first, second = overlay.watch(), overlay.watch()
    number = overlay.issue(ONE, 1, 0, PROMPT)
    first.clear()
    overlay.issue(TWO, 1, 0, PROMPT)
    overlay.withdraw(number)

    assert (first, second) == ({TWO}, {ONE, TWO})
    overlay.settle(number)
    assert first == {ONE, TWO}
