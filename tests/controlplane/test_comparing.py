"""Three accounts of one holding are compared at equal places, and what differs is said level by level."""

from collections.abc import Mapping

import pytest

from kvplane.controlplane.comparing import Finding, LevelFound, Look
from kvplane.directory import Account, HolderId, PageRead, holder_id

R = holder_id("r-0")


def account(seq: int, gpu: int, cpu: int = 0, seed: int = 0) -> Account:
    """So many blocks; another seed: other ones."""
    levels = ((gpu, seed), (cpu, 0), (0, 0))
    return Account(R, 1, seq, b"".join(bytes((blocks, other)) * 8 for blocks, other in levels), (gpu, cpu, 0))


def page(*accounts: Account, last: int = 9) -> PageRead:
    return PageRead({each.place: each for each in accounts}, place=(1, last))


def look(own: Account | None, read: PageRead, mirrors: Mapping[str, Account | None]) -> Look:
    replicas = {} if own is None else {R: own}
    told: dict[str, dict[HolderId, Account]] = {
        router: {} if each is None else {R: each} for router, each in mirrors.items()
    }
    return Look([R], replicas, told, {R: read})


def test_equal_accounts_at_different_places_are_no_finding() -> None:
    early, late = account(3, 10), account(5, 12)

    assert look(late, page(early, late), {"r1": early, "r2": late}).findings == []


def test_places_are_those_of_the_replica_and_of_every_mirror() -> None:
    seen = look(account(5, 12), page(), {"r1": account(3, 10), "r2": None})

    assert seen.places(R) == {(1, 3), (1, 5)}


@pytest.mark.parametrize(
    "found, levels",
    [
        (account(5, 11), (LevelFound("gpu", 12, 11),)),
        (account(5, 12, seed=1), (LevelFound("gpu", 12, 12),)),
        (account(5, 11, 1), (LevelFound("gpu", 12, 11), LevelFound("cpu", 0, 1))),
    ],
)
def test_a_page_is_judged_by_its_replica_and_a_mirror_by_the_page(
    found: Account, levels: tuple[LevelFound, ...]
) -> None:
    right = account(5, 12)

    assert look(right, page(found), {}).findings == [Finding(R, "page", None, "differs from its replica", levels)]
    assert look(right, page(right), {"r1": right, "r2": found}).findings == [
        Finding(R, "mirror", "r2", "differs from the page", levels)
    ]


def test_a_mirror_that_says_what_a_wrong_page_says_is_not_blamed() -> None:
    wrong = account(5, 11)

    assert [each.copy for each in look(account(5, 12), page(wrong), {"r1": wrong}).findings] == ["page"]


def test_a_checkpoint_can_show_that_an_account_is_right_but_not_that_it_is_wrong() -> None:
    read = PageRead(checkpoint=account(5, 12), place=(1, 5))

    assert look(account(5, 12), read, {}).findings == []
    assert look(account(5, 11), read, {}).findings == [
        Finding(R, "page", None, "the page, read anew up to 1-5, does not tell of 1-5")
    ]


def test_what_cannot_be_compared_says_why() -> None:
    assert look(None, page(), {}).findings == [Finding(R, "replica", None, "does not answer")]
    [gone] = look(account(5, 1), PageRead(flaw="it is not there"), {}).findings
    [behind] = look(account(9, 1), page(account(9, 1)), {"r1": account(5, 1)}).findings
    [unread] = look(account(9, 1), page(account(9, 1)), {"r1": None}).findings
    [broken] = look(account(9, 1), PageRead(place=(1, 7), flaw="no signature"), {}).findings

    assert gone.what == "the page is not there"
    assert behind.what == "the page, read anew up to 1-9, does not tell of 1-5"
    assert (unread.copy, unread.what) == ("mirror", "has not read the page")
    assert broken.what == "the page, read anew up to 1-7, does not tell of 1-9: no signature"
