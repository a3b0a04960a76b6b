"""The users' side, against a chat server on loopback."""

from collections.abc import Sequence

import pytest

from kvplane.controlplane.demo import DemoError
from kvplane.controlplane.demo import drive as drive_file
from kvplane.controlplane.demo.drive import Answer, Failure, Reply, Target, drive
from kvplane.controlplane.demo.workload import Conversation, Turn, User, Workload
from kvplane.tests.controlplane.demo.fake_chat import FakeChat

KEYS = {"acme": "sk-acme", "globex": "sk-globex"}


def workload(*users: tuple[str, int]) -> Workload:
    """Each user: a tenant, and how many questions about csv."""
    return Workload(
        [
            User(tenant, [Conversation("csv", [Turn(f"question {turn}?", turn + 0.5) for turn in range(turns)])])
            for tenant, turns in users
        ],
        max_tokens=7,
    )


async def driven(work: Workload, fake: FakeChat) -> tuple[Sequence[Reply], list[float], list[Reply]]:
    """The replies, the pauses taken, and what was told on the way."""
    pauses: list[float] = []
    told: list[Reply] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    replies = await drive(work, Target(fake.url, "smollm2", KEYS), told.append, pause)
    return replies, pauses, told


async def test_each_turn_sends_all_before_it_with_the_models_own_answers(fake_chat: FakeChat) -> None:
    _, pauses, _ = await driven(workload(("acme", 3)), fake_chat)

    last = fake_chat.asked[2][1]["messages"]
    assert [message["role"] for message in last] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [message["content"] for message in last[2:]] == ["answer 0", "question 1?", "answer 1", "question 2?"]
    assert last[:2] == fake_chat.asked[0][1]["messages"]
    assert pauses == [0.5, 1.5, 2.5]


async def test_a_request_is_greedy_streamed_bounded_and_under_its_tenants_key(fake_chat: FakeChat) -> None:
    await driven(workload(("globex", 1)), fake_chat)

    authorization, body = fake_chat.asked[0]
    assert authorization == "Bearer sk-globex"
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("smollm2", 0, 7)
    assert body["stream"]
    assert body["stream_options"] == {"include_usage": True}


async def test_usage_text_and_the_decisions_id_are_read_from_the_stream(fake_chat: FakeChat) -> None:
    replies, _, told = await driven(workload(("acme", 1)), fake_chat)

    (reply,) = replies
    assert isinstance(reply, Answer)
    assert (reply.tenant, reply.module, reply.turn) == ("acme", "csv", 0)
    got = reply.completion
    assert (got.decision, got.text) == ("0" * 16, "answer 0")
    assert got.prompt_tokens > 500
    assert got.cached_tokens == got.prompt_tokens // 2
    assert got.prefill_tokens == got.prompt_tokens - got.cached_tokens
    assert 0 < got.ttft_ms < 60_000
    assert told == [reply]


async def test_equal_prompts_of_two_tenants_have_equal_digests(fake_chat: FakeChat) -> None:
    replies, _, _ = await driven(workload(("acme", 1), ("globex", 1)), fake_chat)

    digests = {reply.prompt for reply in replies if isinstance(reply, Answer)}
    assert len(replies) == 2
    assert len(digests) == 1


@pytest.mark.parametrize("broken", ["refuse", "break_off"])
async def test_a_turn_that_fails_is_told_and_left_out_of_the_next(fake_chat: FakeChat, broken: str) -> None:
    getattr(fake_chat, broken).add(0)

    replies, _, told = await driven(workload(("acme", 2)), fake_chat)

    assert isinstance(replies[0], Failure)
    assert isinstance(replies[1], Answer)
    assert "no replica is ready" in replies[0].why or "broke off" in replies[0].why
    assert [message["content"] for message in fake_chat.asked[1][1]["messages"][1:]] == ["question 1?"]
    assert told == list(replies)


async def test_a_stream_without_its_usage_is_a_failure(fake_chat: FakeChat) -> None:
    fake_chat.cut_short.add(0)

    replies, _, _ = await driven(workload(("acme", 1)), fake_chat)

    assert replies == [Failure("acme", "the stream ended before the answer did")]


async def test_nobody_asks_before_the_application_is_ready(fake_chat: FakeChat) -> None:
    fake_chat.not_ready = 2

    await driven(workload(("acme", 1)), fake_chat)

    assert fake_chat.paths == ["/ready", "/ready", "/ready", "/v1/chat/completions"]


async def test_an_application_that_never_gets_ready_is_an_error(
    fake_chat: FakeChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_chat.not_ready = 1 << 30
    monkeypatch.setattr(drive_file, "_READY_S", 0.3)

    with pytest.raises(DemoError, match="/ready"):
        await driven(workload(("acme", 1)), fake_chat)
