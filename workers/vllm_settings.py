"""What can be set of a vLLM engine, read without vLLM: routers know it, and need none."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Argument = bool | int | float | str | list[str] | dict[str, bool | int | float | str]

_DEFAULTS = {
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",  # all it needs is in the model's folder
    "VLLM_HOST_IP": "127.0.0.1",  # its processes speak to each other
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a replica has threads, and those do not survive a fork
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # by itself every replica binds to the first cores
}


class VllmSettings(BaseModel):
    """On CPU a block has a multiple of 32 tokens, and `cache_bytes` is to be set: else all memory is taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["vllm"] = "vllm"
    model: str = Field(description='a Hugging Face model folder; or "smollm2", "tiny", a .gguf file')
    cache: Path = Path("~/.cache/kvplane")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    block_tokens: int = Field(32, ge=1)
    blocks: int = Field(0, ge=0, description="0: as many as memory takes")
    cache_bytes: int | None = Field(None, ge=1, description="memory for blocks; unset: vLLM takes its share of the GPU")
    max_context: int | None = Field(None, ge=2, description="prompt and output; unset: the model's own")
    max_sequences: int = Field(64, ge=1, description="that run at a time")
    prefill_chunk: int | None = Field(None, ge=1, description="tokens a step, of all sequences; unset: vLLM's default")
    arguments: dict[str, Argument] = Field(default={}, description="further arguments of vLLM's engine, by its names")
    environment: dict[str, str] = Field(default={}, description="variables to set before vLLM is loaded")

    def variables(self, given: Mapping[str, str]) -> dict[str, str]:
        """What is to be added to an environment, which goes before our defaults, but not before what is set here."""
        return {name: value for name, value in _DEFAULTS.items() if name not in given} | self.environment
