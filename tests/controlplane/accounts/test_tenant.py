"""A key leads to its tenant and the scope of its cache, and rules out of bounds are refused."""

import hashlib
from collections.abc import Mapping

import pytest
from pydantic import ValidationError

from kvplane.controlplane.accounts import NO_BOOK, Book, KeyRecord, PublicPrefix, Rules, Tenant, digest_of
from kvplane.directory import Domain, Keyring

ACME = Tenant(organisation="acme", workspace="support")


def record(key: str, tenant: Tenant = ACME, isolation_key: str = "") -> KeyRecord:
    return KeyRecord(digest=digest_of(key), tenant=tenant.name, isolation_key=isolation_key)


def book(*records: KeyRecord) -> Book:
    return Book(1, {ACME.name: ACME}, {each.digest: each for each in records})


def test_a_key_speaks_for_its_tenant_within_its_own_domain() -> None:
    found = book(record("sk-1"), record("sk-2", isolation_key="batch"))

    one, two = found.caller("sk-1"), found.caller("sk-2")

    assert one is not None
    assert two is not None
    assert one.tenant == two.tenant == ACME
    assert one.domain == Domain("acme", "support", "")
    assert two.domain == Domain("acme", "support", "batch")
    assert found.domains == {one.domain, two.domain}


def test_a_key_of_nobody_or_of_a_tenant_that_is_gone_speaks_for_nobody() -> None:
    found = book(record("sk-1"), record("sk-2", Tenant(organisation="gone")))

    assert found.caller("sk-0") is None
    assert found.caller("sk-2") is None
    assert found.caller(digest_of("sk-1")) is None
    assert NO_BOOK.caller("sk-1") is None


def test_a_part_of_a_domain_is_another_domain_of_the_same_tenant() -> None:
    caller = book(record("sk-1")).caller("sk-1")
    assert caller is not None

    part = caller.within("user-7")

    assert part.tenant == caller.tenant
    assert part.domain != caller.domain
    assert part == caller.within("user-7") != caller.within("user-8")
    assert caller.within(None) is caller


def test_what_is_kept_of_a_key_is_its_digest_and_an_id_that_begins_it() -> None:
    kept = record("sk-acme-0123456789")

    assert kept.digest == hashlib.sha256(b"sk-acme-0123456789").hexdigest()
    assert kept.digest.startswith(kept.id)
    assert len(kept.id) == 12
    assert "0123456789" not in kept.model_dump_json().replace(kept.digest, "")


@pytest.mark.parametrize("name", ["", "Acme", "-acme", "a/b", "a b", "a{b", "a" * 64, "a\n"])
def test_a_tenants_name_is_plain(name: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        Tenant(organisation=name)
    with pytest.raises(ValidationError, match="pattern"):
        Tenant(organisation="acme", workspace=name)


@pytest.mark.parametrize(
    "rule",
    [
        {"requests_per_minute": 0},
        {"tokens_per_minute": -1},
        {"concurrency": 0},
        {"write_blocks_per_minute": 0},
        {"write_burst_blocks": 0},
        {"over_write_limit": "ignore"},
        {"resident_share": 0},
        {"resident_share": 1.1},
        {"admit_from": 0},
        {"admit_from": 256},
        {"weight": 0},
        {"weight": float("nan")},
        {"subdivide_by": "model"},
        {"colour": "red"},
    ],
)
def test_a_rule_out_of_bounds_or_unknown_is_refused(rule: Mapping[str, object]) -> None:
    with pytest.raises(ValidationError):
        Rules.model_validate(rule)


def test_without_rules_there_is_no_limit() -> None:
    assert {value for name, value in Rules() if name not in ("over_write_limit", "admit_from", "weight")} == {None}


def test_a_public_domain_is_no_tenants_whatever_either_is_called() -> None:
    prefix = PublicPrefix(name="acme", system="Be brief.", tenants=(ACME.name,))
    keyring, found = Keyring(b"m" * 32), Book(1, {}, {}, {prefix.name: prefix})
    others = [Domain("acme", ""), Domain("acme", "default"), Domain("", "", "acme"), Domain("", "", "", "acme")]

    assert found.domains == {prefix.domain}
    assert keyring.salt(prefix.domain) not in {keyring.salt(each) for each in others}
    with pytest.raises(ValidationError):
        Tenant(organisation="", workspace="acme")


@pytest.mark.parametrize("changed", [{"name": ""}, {"name": "A/b"}, {"system": ""}, {"tenants": ()}, {"salt": "x"}])
def test_a_public_prefix_has_a_plain_name_a_text_and_tenants(changed: Mapping[str, object]) -> None:
    fields = {"name": "code", "system": "Be brief.", "tenants": (ACME.name,), **changed}

    with pytest.raises(ValidationError) as told:
        PublicPrefix.model_validate(fields)
    assert "Be brief" not in str(told.value)
