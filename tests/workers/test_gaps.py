"""What a subscriber makes of messages that are missed, come twice, or come from a publisher that started anew."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from kvplane.workers.gaps import Lost, Message, in_order


class Publisher:
    """Keeps its last messages for replay, and knows what it was asked for."""

    def __init__(self, payloads: Sequence[bytes], kept: int = 1000) -> None:
        self.messages = [Message(number, payload) for number, payload in enumerate(payloads)]
        self.kept = kept
        self.asked: list[int] = []

    async def replay(self, wanted: int) -> AsyncGenerator[Message, None]:
        self.asked.append(wanted)
        for message in self.messages[-self.kept :]:
            if message.number >= wanted:
                yield message


async def live(*messages: Message | None) -> AsyncIterator[Message | None]:
    for message in messages:
        yield message


async def told(publisher: Publisher, *messages: Message | None) -> list[bytes | None]:
    """Payloads in the order they are told in, None for a loss."""
    stream = in_order(live(*messages), publisher.replay)
    return [None if isinstance(each, Lost) else each.payload async for each in stream]


async def test_messages_in_order_are_told_once_and_nothing_is_asked_for() -> None:
    publisher = Publisher([b"a", b"b", b"c"])

    assert await told(publisher, *publisher.messages) == [b"a", b"b", b"c"]
    assert publisher.asked == []


async def test_a_gap_in_the_middle_is_repaired() -> None:
    publisher = Publisher([b"a", b"b", b"c", b"d", b"e"])
    a, _, _, d, e = publisher.messages

    assert await told(publisher, a, d, e) == [b"a", b"b", b"c", b"d", b"e"]
    assert publisher.asked == [0]


async def test_what_was_published_before_the_subscription_and_last_of_all_is_asked_for_in_a_silence() -> None:
    publisher = Publisher([b"a", b"b", b"c"])

    assert await told(publisher, None, publisher.messages[1]) == [b"a", b"b", b"c"]
    assert await told(publisher, publisher.messages[0], None) == [b"a", b"b", b"c"]


async def test_what_is_not_kept_any_more_is_lost_and_the_rest_is_told() -> None:
    publisher = Publisher([b"a", b"b", b"c", b"d", b"e"], kept=2)
    a, *_, e = publisher.messages

    assert await told(publisher, a, e) == [b"a", None, b"d", b"e"]


async def test_a_publisher_that_does_not_answer_costs_what_was_missed() -> None:
    publisher = Publisher([b"a", b"b", b"c"])
    a, _, c = publisher.messages

    async def silent(wanted: int) -> AsyncGenerator[Message, None]:
        if wanted >= 0:
            raise TimeoutError
        yield publisher.messages[wanted]

    stream = [each async for each in in_order(live(None, a, c, None), silent)]

    assert [isinstance(each, Lost) or each.payload for each in stream] == [b"a", True, b"c"]


async def test_a_publisher_that_begins_anew_is_known_by_its_numbers() -> None:
    before, after = Publisher([b"a", b"b", b"c"]), Publisher([b"x", b"y"])

    assert await told(after, *before.messages, after.messages[1]) == [b"a", b"b", b"c", None, b"x", b"y"]


async def test_a_publisher_that_begins_anew_unnoticed_is_known_by_what_it_keeps() -> None:
    before, after = Publisher([b"a", b"b"]), Publisher([b"w", b"x", b"y", b"z"])

    assert await told(after, *before.messages, after.messages[3]) == [b"a", b"b", None, b"w", b"x", b"y", b"z"]
    assert await told(after, *before.messages, None) == [b"a", b"b", None, b"w", b"x", b"y", b"z"]
    assert await told(Publisher([]), *before.messages, None) == [b"a", b"b", None]
