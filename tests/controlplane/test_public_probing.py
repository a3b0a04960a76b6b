"""Who probes is told from who has another version: by the places where prompts part from a public prefix."""

import logging

import pytest

from kvplane.controlplane.public_probing import Probing
from kvplane.directory import Domain

CODE, DOCS = Domain("", "code"), Domain("", "docs")
ACME, GLOBEX = "acme/default", "globex/default"


class Watch:
    """A detector, and requests a second apart."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.probing = Probing(lambda: self.now_s)

    def parted(self, *words: int, tenant: str = ACME, domain: Domain = CODE, max_tokens: int = 1) -> bool:
        """Whether a tenant is kept out once its prompts parted from a prefix at these words."""
        for word in words:
            self.now_s += 1
            self.probing.parted(tenant, domain, word, max_tokens)
        return self.probing.keeps_out(tenant)


def test_eight_places_are_probing_wherever_they_are(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch()
    seven = watch.parted(*range(64, 71))
    with caplog.at_level(logging.WARNING):
        eight = watch.parted(3, domain=DOCS)

    assert (seven, eight, watch.probing.kept_out, watch.probing.flagged) == (False, True, (ACME,), 1)
    assert caplog.messages == [
        "acme/default shares no public prefix for 60 minutes: within 10, its prompts parted from one at 8 places"
    ]


def test_other_versions_of_a_prompt_are_none_however_often_they_are_sent() -> None:
    assert not Watch().parted(*[64, 70, 99, 120, 7, 8, 9] * 50)


def test_requests_that_want_an_answer_do_not_count() -> None:
    watch = Watch()

    assert not watch.parted(*range(64, 90), max_tokens=17)
    assert watch.parted(*range(64, 90), max_tokens=16)


def test_places_of_ten_minutes_ago_do_not_count() -> None:
    watch = Watch()
    watch.parted(*range(1, 8))
    watch.now_s += 599.0 - 6  # the first of them is so old that it goes with the next
    late = watch.parted(8)

    assert not late
    assert not watch.parted(*range(2, 8))  # known places
    assert watch.parted(9)


def test_tenants_are_told_apart() -> None:
    watch = Watch()
    watch.parted(*range(7))

    assert not watch.parted(*range(7, 14), tenant=GLOBEX)
    assert watch.parted(7)
    assert watch.probing.kept_out == (ACME,)


def test_after_an_hour_all_begins_anew() -> None:
    watch = Watch()
    watch.parted(*range(8))
    watch.now_s += 3599.0
    still = watch.probing.kept_out
    watch.now_s += 1.0

    assert (still, watch.probing.kept_out) == ((ACME,), ())
    assert not watch.parted(*range(10, 17))
    assert watch.parted(17)
    assert watch.probing.flagged == 2
