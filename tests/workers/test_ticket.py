"""Only what the control plane signed is served, and only in its time."""

import pickle

import msgspec
import pytest

from kvplane.workers.engine import Public
from kvplane.workers.ticket import BadTicket, Ticket, verify

KEY = b"k" * 32


def ticket() -> Ticket:
    unsigned = Ticket("d1", "r1", 7, ("a", "b"), "5a17", "00-1-2-01", deadline_s=100.0, prompt_blocks=3)
    return msgspec.structs.replace(unsigned, public=Public("9b11c", 2)).signed(KEY)


def test_a_signed_ticket_verifies_after_crossing_a_process() -> None:
    crossed = pickle.loads(pickle.dumps(ticket()))  # noqa: S301  # as Serve sends it

    verify(crossed, KEY, now_s=99.0)
    assert crossed == ticket()


@pytest.mark.parametrize(
    "field, value",
    [
        ("salt", "other"),
        ("ranks", ("b",)),
        ("deadline_s", 1e9),
        ("number", 8),
        ("public", None),
        ("public", Public("9b11c", 3)),
        ("public", Public("other", 2)),
    ],
)
def test_an_altered_field_is_refused(field: str, value: object) -> None:
    altered = msgspec.structs.replace(ticket(), **{field: value})

    with pytest.raises(BadTicket, match="signature"):
        verify(altered, KEY, now_s=99.0)


def test_another_key_is_refused() -> None:
    with pytest.raises(BadTicket, match="signature"):
        verify(ticket(), b"x" * 32, now_s=99.0)


def test_a_late_ticket_is_refused() -> None:
    with pytest.raises(BadTicket, match="deadline"):
        verify(ticket(), KEY, now_s=101.5)


def test_a_repeat_leaves_out_where_it_failed_and_verifies() -> None:
    repeat = ticket().without("a", 200.0, KEY)

    verify(repeat, KEY, now_s=199.0)
    assert repeat.ranks == ("b",)
    assert repeat.id == "d1"


def test_the_first_choice_declines_what_finds_more_waiting_than_was_supposed_and_others_do_not() -> None:
    bounded = msgspec.structs.replace(ticket(), most_waiting_tokens=50)

    assert bounded.suits("a", 50)
    assert not bounded.suits("a", 51)
    assert bounded.suits("b", 51)
    assert ticket().suits("a", 1 << 40)


def test_a_repeat_is_declined_by_nobody() -> None:
    repeat = msgspec.structs.replace(ticket(), most_waiting_tokens=50).without("a", 200.0, KEY)

    assert repeat.suits("b", 51)


def test_the_salt_is_never_printed() -> None:
    assert "5a17" not in repr(ticket())
