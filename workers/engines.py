"""The engines by name: their settings, and how each is opened."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from .embedded_engine import EmbeddedSettings, embedded_engine
from .engine import Engine
from .simulated_engine import SimulatedSettings, simulated_engine
from .weights import prepare

EngineSettings = Annotated[EmbeddedSettings | SimulatedSettings, Field(discriminator="engine")]

# Any: each opener takes its own settings, which carry the name it is found by.
_OPENERS: dict[str, Callable[[Any], AbstractAsyncContextManager[Engine]]] = {
    "embedded": embedded_engine,
    "simulated": simulated_engine,
}


def open_engine(settings: EmbeddedSettings | SimulatedSettings) -> AbstractAsyncContextManager[Engine]:
    """Return the engine, to be opened by `async with`."""
    return _OPENERS[settings.engine](settings)


def prepare_model(settings: EmbeddedSettings | SimulatedSettings) -> Path:
    """Make the folder with the engine's tokenizer, template and weights, before replicas start. Raises `BadModel`."""
    return prepare(settings.model if settings.engine == "embedded" else "tiny", settings.cache)
