"""Every accounts store refuses what makes no sense, before it changes anything."""

import math

import pytest

from kvplane.controlplane.accounts import KeyRecord, Rate, Tenant
from kvplane.controlplane.errors import ConfigError

from .stores import SLOW, Store


@pytest.mark.parametrize("key_id", ["", "AB", "*", "a" * 65])
async def test_what_is_no_key_id_revokes_nothing(store: Store, key_id: str) -> None:
    acme = Tenant(organisation="acme")
    await store.accounts.put(acme)
    await store.accounts.add_key(KeyRecord(digest="ab" * 32, tenant=acme.name))

    with pytest.raises(ConfigError, match="digits 0-9 and a-f"):
        await store.accounts.revoke(key_id)
    assert (await store.accounts.read()).keys


@pytest.mark.parametrize("need, want", [(-1, 1), (2, 1), (math.nan, 1), (1, math.nan), (1, math.inf)])
async def test_a_lease_of_no_proper_amount_is_refused(store: Store, need: float, want: float) -> None:
    with pytest.raises(ValueError, match="a lease is of"):
        await store.accounts.lease("b", SLOW, need, want)


@pytest.mark.parametrize("name", ["", "a" * 257])
async def test_a_name_is_bounded(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="1 to 256"):
        await store.accounts.lease(name, SLOW, 1, 1)
    with pytest.raises(ValueError, match="1 to 256"):
        await store.accounts.give_back(name, SLOW, 1)
    with pytest.raises(ValueError, match="1 to 256"):
        await store.accounts.claim("c", name, 1, 1, 1)


async def test_what_cannot_be_given_back_or_claimed_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="finite"):
        await store.accounts.give_back("b", SLOW, math.nan)
    with pytest.raises(ValueError, match="got -1 for"):
        await store.accounts.claim("c", "r", -1, 5, 1)
    with pytest.raises(ValueError, match="for 0 s"):
        await store.accounts.claim("c", "r", 1, 5, 0)


@pytest.mark.parametrize("per_s, burst", [(0, 1), (-1, 1), (1, 0), (1, -1), (math.inf, 1), (1, math.inf), (1e-9, 10)])
def test_the_terms_of_a_bucket_let_it_fill(per_s: float, burst: float) -> None:
    with pytest.raises(ValueError, match="a bucket fills"):
        Rate(per_s, burst)
