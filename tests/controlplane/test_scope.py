"""A request's own fields narrow whose cache it shares, and never widen it."""

import pytest

from kvplane.controlplane.accounts import Caller, Rules, Tenant
from kvplane.controlplane.openai import parse_chat
from kvplane.controlplane.scope import affinity_of, part_of
from kvplane.directory import Domain, Keyring

ACME = Domain("acme", "default")
BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "user": "ann", "prompt_cache_key": "chat-7"}'


@pytest.mark.parametrize(
    "field, part", [(None, None), ("user", "ann"), ("prompt_cache_key", "chat-7"), ("safety_identifier", None)]
)
def test_only_the_tenants_own_rule_divides_its_domain(field: str | None, part: str | None) -> None:
    rules = Rules.model_validate({"subdivide_by": field})
    caller = Caller(Tenant(organisation="acme", rules=rules), Domain("acme", "default", "blue"))

    found = part_of(caller, parse_chat(BODY))
    assert found == part
    assert caller.within(found).domain == Domain("acme", "default", "blue", part or "")


def test_parts_share_no_salt_with_one_another_nor_with_what_another_domain_is_called() -> None:
    ring = Keyring(bytes(32))
    domains = [
        ACME,
        Domain("acme", "default", "", "ann"),
        Domain("acme", "default", "ann"),
        Domain("acme", "defaultann"),
    ]

    assert len({ring.salt(domain) for domain in domains}) == 4


def test_a_cache_key_means_the_same_to_every_router_and_something_else_to_every_domain() -> None:
    numbers = {
        affinity_of(ACME, "chat-7"),
        affinity_of(ACME, "chat-8"),
        affinity_of(Domain("globex", "default"), "chat-7"),
    }

    assert affinity_of(ACME, None) == affinity_of(ACME, "") == 0
    assert affinity_of(ACME, "chat-7") == 807493971924606619
    assert len(numbers) == 3
    assert all(0 < number < 1 << 63 for number in numbers)
