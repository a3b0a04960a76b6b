"""One Ray for all walks, on loopback; every walk deploys what it needs on it."""

from collections.abc import Iterator

import pytest

from kvplane.controlplane.config import Settings
from kvplane.controlplane.local import Machine, Serving, free_port, machine


@pytest.fixture(scope="session")
def ray_machine() -> Iterator[Machine]:
    with machine(free_port(0), cpus=2) as here:
        yield here


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    engine = {"model": "tiny", "blocks": 256, "max_context": 4096}
    replicas = {"count": 3, "health_period_s": 1}
    return Settings.load(None, engine=engine, replicas=replicas, state=tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def serving(ray_machine: Machine, settings: Settings) -> Iterator[Serving]:
    with ray_machine.serving(settings) as here:
        yield here
