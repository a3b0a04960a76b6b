"""Tests on real engines: collected only where vLLM is installed (`requirements.lock`)."""

import importlib.util
from pathlib import Path

import pytest

from kvplane.workers.vllm_settings import VllmSettings

MODELS = Path(__file__).parents[2] / "build" / "models"

collect_ignore_glob = [] if importlib.util.find_spec("vllm") else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engines)
            item.add_marker(pytest.mark.filterwarnings("default"))  # vLLM and torch warn as they are imported
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def tiny() -> VllmSettings:
    """A model of 3M parameters, in 64 blocks of 32 tokens: 40 MiB."""
    return VllmSettings(
        model="tiny",
        cache=MODELS,
        dtype="float32",
        blocks=64,
        cache_bytes=1 << 28,
        max_context=2048,
        max_sequences=8,
        arguments={"enforce_eager": True},
    )
