"""A fleet whose worst case outgrows a mirror is refused with the numbers, before anything starts."""

import pytest

from kvplane.controlplane.app import build
from kvplane.controlplane.config import Settings
from kvplane.controlplane.errors import ConfigError
from kvplane.controlplane.misfit import misfit
from kvplane.directory import NAME_BYTES

BLOCKS = 1000


def settings(mirror_bytes: int, count: int = 3, max_count: int | None = None) -> Settings:
    replicas = {"count": count, "max_count": max_count}
    engine = {"engine": "simulated", "blocks": BLOCKS}
    return Settings.load(None, engine=engine, replicas=replicas, directory={"mirror_bytes": mirror_bytes})


def test_a_fleet_fits_to_the_last_byte() -> None:
    assert misfit(settings(3 * BLOCKS * NAME_BYTES), BLOCKS) is None
    assert misfit(settings(3 * BLOCKS * NAME_BYTES - 1), BLOCKS) is not None


def test_autoscaling_counts_at_its_upper_bound() -> None:
    assert misfit(settings(3 * BLOCKS * NAME_BYTES, count=3, max_count=4), BLOCKS) is not None


def test_an_application_that_does_not_fit_is_not_built_and_the_numbers_are_named() -> None:
    with pytest.raises(ConfigError, match=f"3 replicas of 1,000 blocks at {NAME_BYTES} bytes .* allows 999"):
        build(settings(999))
