"""The engines by name: their settings, and how each is opened."""

import asyncio
import importlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from .checkpoint import prepare_checkpoint
from .embedded_engine import EmbeddedSettings, embedded_engine
from .engine import Engine
from .simulated_engine import SimulatedSettings, simulated_engine
from .vllm_settings import VllmSettings
from .weights import prepare

AnySettings = EmbeddedSettings | SimulatedSettings | VllmSettings
EngineSettings = Annotated[AnySettings, Field(discriminator="engine")]


class EngineMissing(Exception):
    """The engine that is asked for is not installed here."""


def open_engine(settings: AnySettings) -> AbstractAsyncContextManager[Engine]:
    """Return the engine, to be opened by `async with`."""
    return _OPENERS[settings.engine](settings)


def prepare_model(settings: AnySettings) -> Path:
    """Make the folder with the engine's tokenizer, template and weights, before replicas start. Raises `BadModel`."""
    match settings:
        case VllmSettings():
            return prepare_checkpoint(settings.model, settings.cache)
        case EmbeddedSettings():
            return prepare(settings.model, settings.cache)
        case SimulatedSettings():
            return prepare("tiny", settings.cache)


@asynccontextmanager
async def _vllm_engine(settings: VllmSettings) -> AsyncIterator[Engine]:
    """Raises `EngineMissing`. vLLM is imported where it runs and nowhere else: it is large, and reads its variables."""
    os.environ.update(settings.variables(os.environ))
    folder = await asyncio.to_thread(prepare_model, settings)
    try:
        module = await asyncio.to_thread(importlib.import_module, ".vllm_engine", __package__)
    except ModuleNotFoundError as exc:
        raise EngineMissing(
            f"the vllm engine needs {exc.name}: pip install 'kvplane[vllm]', see docs/engines.md"
        ) from exc
    async with module.running(settings, folder) as engine:
        yield engine


# Any: each opener takes its own settings, which carry the name it is found by.
_OPENERS: dict[str, Callable[[Any], AbstractAsyncContextManager[Engine]]] = {
    "embedded": embedded_engine,
    "simulated": simulated_engine,
    "vllm": _vllm_engine,
}
