"""Keys derive from one master key, and from nothing a caller could confuse."""

import re

import pytest

from kvplane.directory import Domain, Keyring, domain_key, holder_id

MASTER = bytes(range(32))


def test_a_salt_is_64_lower_hex_digits_whatever_the_domain_is_called() -> None:
    salt = Keyring(MASTER).salt(Domain("Ünïversal\x00 {}*", "w" * 1000))

    assert re.fullmatch(r"[0-9a-f]{64}", salt)


def test_the_same_domain_has_the_same_salt_in_every_process() -> None:
    assert Keyring(MASTER).salt(Domain("o", "w")) == Keyring(MASTER).salt(Domain("o", "w", ""))


@pytest.mark.parametrize(
    "other",
    [Domain("a", "bc"), Domain("ab", "c", ""), Domain("abc", ""), Domain("", "abc"), Domain("a", "b", "c")],
)
def test_parts_that_read_the_same_when_joined_give_different_salts(other: Domain) -> None:
    ring = Keyring(MASTER)
    mine = Domain("a", "", "bc")

    assert ring.salt(mine) != ring.salt(other)


def test_an_epoch_and_a_master_key_each_change_the_salt() -> None:
    domain, later = Domain("o", "w"), Domain("o", "w", salt_epoch=1)

    salts = {Keyring(MASTER).salt(domain), Keyring(MASTER).salt(later), Keyring(MASTER[::-1]).salt(domain)}

    assert len(salts) == 3


def test_a_short_master_key_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Keyring(MASTER[:31])


def test_a_signing_key_belongs_to_one_holder_and_one_epoch() -> None:
    ring = Keyring(MASTER)
    one, eleven = holder_id("r-1"), holder_id("r-11")

    keys = {ring.mac_key(one, 1), ring.mac_key(one, 11), ring.mac_key(eleven, 1), ring.ticket_key()}

    assert len(keys) == 4
    assert {len(key) for key in keys} == {32}


def test_every_part_of_a_domain_key_counts() -> None:
    salt = "ab" * 32

    keys = [
        domain_key(salt, "m", "", 16),
        domain_key("cd" * 32, "m", "", 16),
        domain_key(salt, "m2", "", 16),
        domain_key(salt, "m", "lora", 16),
        domain_key(salt, "m", "", 32),
    ]

    assert len({key.prf for key in keys}) == len({key.tag for key in keys}) == len({key.seed for key in keys}) == 5
    assert all(re.fullmatch(r"[0-9a-f]{16}", key.tag) for key in keys)


def test_a_name_epoch_changes_every_name_of_a_domain_and_not_its_tag() -> None:
    salt, fingerprint = "ab" * 32, b"f" * 16

    first, second = domain_key(salt, "m", "", 16), domain_key(salt, "m", "", 16, name_epoch=1)

    assert first.tag == second.tag
    assert first.prf != second.prf
    assert first.seed != second.seed
    assert first.name(fingerprint) != second.name(fingerprint)


def test_a_domain_key_gives_that_of_any_other_epoch() -> None:
    first, second, other = (domain_key("ab" * 32, "m", "lora", 16, epoch) for epoch in (0, 1, 9))

    assert first.in_epoch(1) == second == other.in_epoch(1)
    assert second.in_epoch(0) == first


def test_nothing_prints_a_key() -> None:
    key = domain_key("ab" * 32, "m", "", 16)

    assert repr(key) == f"DomainKey(tag={key.tag!r})"
    assert MASTER.hex() not in repr(Keyring(MASTER))
    assert repr(MASTER) not in repr(Keyring(MASTER))
