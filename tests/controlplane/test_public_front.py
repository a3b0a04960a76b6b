"""Over HTTP: whose tickets begin in public, and who loses that by probing."""

import random
from dataclasses import dataclass
from itertools import count
from typing import Any, cast

import numpy as np
import pytest

from kvplane.controlplane.accounts import PublicPrefix
from kvplane.controlplane.http import build_http
from kvplane.controlplane.metrics import Metrics
from kvplane.controlplane.tokens import load_tokens
from kvplane.directory import Domain, Overlay
from kvplane.policies import PolicySettings, build_policy
from kvplane.tests.controlplane.test_forgery import LAG_S, Fleet, Front, Key, Sent, open_front, send
from kvplane.tests.routers import BLOCK, KEYRING, MODEL, router
from kvplane.workers import EmbeddedSettings, Public, prepare_model

SYSTEM = "You are the assistant of a shop that sells bicycles."
ACME, GLOBEX, HOOLI = (Key(f"sk-{name}-0123456789", Domain(name, "default")) for name in ("acme", "globex", "hooli"))
SHOP = PublicPrefix(name="shop", system=SYSTEM, tenants=("acme/default", "globex/default"))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    tokens = load_tokens(prepare_model(EmbeddedSettings(model="tiny", cache=tmp_path_factory.mktemp("models"))))
    policy, overlay = build_policy(PolicySettings(), random.Random(1)), Overlay("r1", count(0.0, LAG_S).__next__)
    return Fleet(tokens, router(policy, overlay=overlay))


def chat(key: Key, system: str) -> Sent:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "Do you have bells?"}]
    fields = [("model", MODEL), ("max_tokens", 1), ("messages", messages)]
    return Sent(fields, [("authorization", f"Bearer {key.secret}")], chat=True)


async def public_of(front: Front, fleet: Fleet, *requests: Sent) -> list[Public | None]:
    """What is public of the ticket of each request."""
    before = len(fleet.replicas.tickets)
    assert [await send(build_http(front), sent) for sent in requests] == [200] * len(requests)
    return [ticket.public for ticket in fleet.replicas.tickets[before:]]


async def test_prompts_of_named_tenants_begin_in_public_as_chats_or_as_words(fleet: Fleet) -> None:
    front = await open_front(fleet, [ACME, GLOBEX, HOOLI], [SHOP])
    words = fleet.tokens.chat([{"role": "system", "content": SYSTEM}, {"role": "user", "content": "?"}])
    ids = Sent(
        [("model", MODEL), ("max_tokens", 1), ("prompt", np.frombuffer(words, "<u4").tolist())],
        [("authorization", f"Bearer {ACME.secret}")],
    )
    found = await public_of(
        front, fleet, *(chat(key, SYSTEM) for key in (ACME, GLOBEX, HOOLI)), chat(ACME, SYSTEM[:-1] + "!"), ids
    )

    assert found[0] is not None
    assert (found[1:], found[0].salt) == ([found[0], None, None, found[0]], KEYRING.salt(SHOP.domain))
    assert found[0].blocks > len(fleet.tokens.text(SYSTEM)) // 4 // BLOCK - 1


async def test_where_tenants_are_not_kept_apart_nothing_is_public(fleet: Fleet) -> None:
    front = await open_front(fleet, [ACME], [SHOP])
    front._settings = front._settings.model_copy(update={"isolation": False})

    assert await public_of(front, fleet, chat(ACME, SYSTEM)) == [None]


@dataclass(frozen=True)
class Tracer:
    """One that has dropped nothing."""

    dropped: int = 0


async def test_a_tenant_that_probes_is_shown_and_shares_nothing_public(fleet: Fleet) -> None:
    front = await open_front(fleet, [ACME, GLOBEX], [SHOP])
    front._router, front._roster, front._mirror = "r1", fleet.made.sight.roster, fleet.made.sight.mirror
    front._tracer = cast(Any, Tracer())  # Any: all of it that metrics read
    front._metrics = Metrics(front._state)
    guesses = [chat(ACME, SYSTEM[:end]) for end in range(20, 40, 2)]
    found = await public_of(front, fleet, *guesses, chat(ACME, SYSTEM), chat(GLOBEX, SYSTEM))

    assert found[:-1] == [None] * 11
    assert found[-1] is not None
    assert (await front.status()).probing == ("acme/default",)
    assert b"kvplane_probings_total 1.0" in front.metrics()
