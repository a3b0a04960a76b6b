"""Requests are read as OpenAI's clients send them; what would change the meaning is refused by name."""

import json

import pytest

from kvplane.controlplane.errors import BadRequest
from kvplane.controlplane.openai import Shape, Usage, parse_chat, parse_completion, sampling
from kvplane.workers import Sampling

MESSAGES = [{"role": "user", "content": "hi"}]


def chat(**fields: object) -> bytes:
    return json.dumps({"model": "m", "messages": MESSAGES, **fields}).encode()


def completion(**fields: object) -> bytes:
    return json.dumps({"model": "m", "prompt": "hi", **fields}).encode()


def test_text_parts_and_developer_messages_become_what_a_template_takes() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    parsed = parse_chat(chat(messages=[{"role": "developer", "content": "s"}, {"role": "user", "content": parts}]))

    assert [dict(message.plain()) for message in parsed.messages] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "ab"},
    ]


def test_fields_that_change_nothing_are_ignored() -> None:
    assert parse_chat(chat(user="u", metadata={"a": "b"}, store=False, parallel_tool_calls=True)).model == "m"


@pytest.mark.parametrize(
    "fields, wanted",
    [
        ({"n": 2}, "n=2"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"temperature": 3}, r"\$\.temperature"),
        ({"top_p": 0}, r"\$\.top_p"),
        ({"max_tokens": 0}, r"\$\.max_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "at most 4"),
        ({"messages": []}, r"\$\.messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "Invalid enum value 'tool'"),
    ],
)
def test_what_is_not_served_is_refused_by_name(fields: dict[str, object], wanted: str) -> None:
    with pytest.raises(BadRequest, match=wanted):
        parse_chat(chat(**fields))


def test_an_image_is_refused_when_the_message_is_read() -> None:
    parsed = parse_chat(chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]))

    with pytest.raises(BadRequest, match="image_url"):
        parsed.messages[0].plain()


def test_a_body_that_is_not_json_is_a_bad_request() -> None:
    with pytest.raises(BadRequest, match="not JSON"):
        parse_chat(b"{")


@pytest.mark.parametrize("fields", [{"echo": True}, {"suffix": "x"}, {"best_of": 2}])
def test_a_completion_refuses_what_it_cannot_do(fields: dict[str, object]) -> None:
    with pytest.raises(BadRequest, match="not served"):
        parse_completion(completion(**fields))


def test_the_newer_limit_of_a_chat_wins_and_the_context_bounds_both() -> None:
    parsed = parse_chat(chat(max_tokens=5, max_completion_tokens=9, temperature=0))

    default = Sampling(max_tokens=50, temperature=0.2, top_p=0.9)

    assert sampling(parsed, (2,), 100, default).max_tokens == 9
    assert sampling(parsed, (2,), 7, default).max_tokens == 7
    assert sampling(parse_chat(chat()), (2,), 100, default).max_tokens == 50
    assert sampling(parsed, (2,), 7, default).temperature == 0
    assert sampling(parse_chat(chat()), (2,), 7, default).temperature == 0.2
    assert sampling(parse_chat(chat(top_p=1)), (2,), 7, default).top_p == 1


def test_a_stream_names_the_role_once_and_ends_with_usage() -> None:
    shape = Shape("d1", "m", chat=True)
    first, last = shape.chunk("a", None, first=True), shape.chunk("", "stop", first=False)

    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "a"}  # type: ignore[index]
    assert last["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}  # type: ignore[index]
    assert shape.usage(Usage(7, 2, 4))["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
