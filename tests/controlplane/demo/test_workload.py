"""The work is the same everywhere, and of the sizes that the comparison was chosen for."""

import configparser
import inspect
from collections import Counter

import pytest

from kvplane.controlplane.demo import DemoError
from kvplane.controlplane.demo.documents import CHARACTERS, excerpt
from kvplane.controlplane.demo.workload import fixed_workload


def test_two_calls_give_the_same_work() -> None:
    assert fixed_workload() == fixed_workload()


def test_two_tenants_ask_as_much_as_each_other() -> None:
    workload = fixed_workload()

    asked = Counter(
        user.tenant for user in workload.users for conversation in user.conversations for _ in conversation.turns
    )

    assert workload.tenants == ("acme", "globex")
    assert asked == {"acme": 32, "globex": 32}
    assert workload.requests == 64


def test_a_first_prompt_is_of_five_hundred_to_a_thousand_tokens() -> None:
    for user in fixed_workload().users:
        for conversation in user.conversations:
            characters = sum(len(said["content"]) for said in [*conversation.opening(), conversation.ask(0)])

            assert 500 <= characters / 4 <= 1000


def test_only_the_first_question_carries_the_document() -> None:
    conversation = fixed_workload().users[0].conversations[0]

    first, second = conversation.ask(0)["content"], conversation.ask(1)["content"]

    assert first.endswith(f"{excerpt(conversation.module)}\n\n{conversation.turns[0].question}")
    assert second == conversation.turns[1].question


def test_both_tenants_open_one_document_with_the_same_prompt() -> None:
    prompts: dict[str, set[str]] = {}
    for user in fixed_workload().users:
        for conversation in user.conversations:
            prompts.setdefault(conversation.ask(0)["content"], set()).add(user.tenant)

    shared = [prompt for prompt, tenants in prompts.items() if len(tenants) == 2]

    assert len(shared) == 1
    assert "configparser" in shared[0]


def test_no_two_conversations_of_a_tenant_ask_the_same_of_a_document() -> None:
    opened = [
        (user.tenant, conversation.module, conversation.turns[0].question)
        for user in fixed_workload().users
        for conversation in user.conversations
    ]

    assert len(set(opened)) == len(opened)


def test_a_document_is_cut_at_the_end_of_a_line() -> None:
    text = excerpt("configparser")

    assert CHARACTERS - 200 < len(text) <= CHARACTERS
    assert text.startswith('"""Configuration file parser.')
    assert inspect.getsource(configparser)[len(text)] == "\n"


@pytest.mark.parametrize("module", ["no_such_module_anywhere", "itertools"])
def test_a_source_that_this_python_lacks_is_named(module: str) -> None:
    with pytest.raises(DemoError, match=module):
        excerpt(module)
