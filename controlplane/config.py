"""Composes the settings of all floors, and loads them; each lives beside the code it sets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..directory import DirectorySettings
from ..policies import PolicySettings
from ..workers import EmbeddedSettings, EngineSettings, ReplicaSettings
from .accounts.settings import AccountsSettings
from .errors import ConfigError
from .tracing import TracingSettings

RAY = "ray"
_ENGINES = ("embedded", "simulated")
_WORDS = {"engine": "model", "routing": "name"}  # what a bare word in their place means


class RouterSettings(BaseModel):
    """The router processes, and how they route."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(default=1, ge=1, description="router processes; each decides on its own mirror")
    request_timeout_s: float = Field(default=300, gt=0, description="longest wait for a first token")
    max_queued_requests: int = Field(default=1000, ge=1, description="requests that wait for a replica before 503s")
    default_temperature: float = Field(
        default=0.2, ge=0, le=2, description="where a client sets none; at OpenAI's own 1 a small model rambles"
    )
    default_top_p: float = Field(default=0.9, gt=0, le=1, description="where a client sets none")
    fair_queue: bool = Field(
        default=True,
        description="where replicas are saturated, queue in the router, tenants taking turns by weight and by tokens; "
        "not where Ray places requests",
    )
    metrics_need_key: bool = Field(default=False, description="/metrics only with the operator's key; see docs")
    default_max_tokens: int = Field(default=512, ge=1, description="output tokens where a client sets no limit")


class Settings(BaseModel):
    """Everything that can be set, under `args:` of a Serve configuration or in a file for `kvplane up --config`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    engine: EngineSettings = Field(
        default=EmbeddedSettings(), description="an engine's settings; a bare string is a model of the embedded one"
    )
    served_name: str | None = Field(default=None, description="the model's name for clients; its own if unset")
    replicas: ReplicaSettings = ReplicaSettings()
    router: RouterSettings = RouterSettings()
    routing: PolicySettings | Literal["ray"] = Field(
        default=PolicySettings(), description="a policy's settings or bare name; ray: Ray's own power of two"
    )
    directory: DirectorySettings = DirectorySettings()
    accounts: AccountsSettings = AccountsSettings()
    open: bool = Field(default=False, description="no keys: whoever reaches it is one tenant; on loopback only")
    isolation: bool = Field(
        default=True, description="false: all tenants share one cache, as a leak would; to see what an audit finds"
    )
    tracing: TracingSettings = TracingSettings()
    state: Path = Field(default=Path(".kvplane"), description="keys, accounts, shards, decisions")
    tenants: Path | None = Field(
        default=None, description="who may ask, where accounts know nobody yet; tenants.yaml in the state folder"
    )

    @field_validator("engine", mode="before")
    @classmethod
    def _engine_of_a_word(cls, engine: object) -> object:
        if isinstance(engine, str):
            return {"engine": engine} if engine in _ENGINES else {"engine": "embedded", "model": engine}
        return {"engine": "embedded", **engine} if isinstance(engine, dict) else engine

    @field_validator("routing", mode="before")
    @classmethod
    def _policy_of_a_word(cls, routing: object) -> object:
        return {"name": routing} if isinstance(routing, str) and routing != RAY else routing

    @field_validator("state")
    @classmethod
    def _absolute(cls, state: Path) -> Path:
        """Ray's processes have other working folders."""
        return state.expanduser().absolute()

    @property
    def name(self) -> str:
        """The model's name on the wire."""
        model = self.engine.model if isinstance(self.engine, EmbeddedSettings) else self.engine.engine
        return self.served_name or Path(model).stem

    @property
    def policy_name(self) -> str:
        return self.routing.name if isinstance(self.routing, PolicySettings) else self.routing

    @property
    def queues_here(self) -> bool:
        """Whether requests wait in the router; those that Ray places wait where Ray has them wait."""
        return self.router.fair_queue and self.routing != RAY

    @property
    def least_in_flight(self) -> int:
        """Requests that a replica is given however long they take: Ray scales by those that it sees."""
        return 0 if self.replicas.max_count is None else int(self.replicas.target_ongoing_requests) + 2

    @property
    def tenants_file(self) -> Path:
        return (self.tenants or self.state / "tenants.yaml").absolute()

    @property
    def decisions_file(self) -> Path:
        return self.state / "decisions.sqlite"

    @classmethod
    def load(cls, path: Path | None, **overrides: object) -> Self:
        """Defaults, then a YAML file, then what of the overrides is not None, part by part. Raises `ConfigError`."""
        try:
            values = yaml.safe_load(path.read_text()) or {} if path else {}
            if not isinstance(values, dict):
                raise ConfigError(f"{path}: settings are a mapping of names to values; got {type(values).__name__}")
            return cls.model_validate(_over(values, overrides))
        except (OSError, yaml.YAMLError, ValidationError) as exc:
            raise ConfigError(f"{path or 'settings'}: {exc}") from exc


def _over(values: Mapping[str, object], overrides: Mapping[str, object]) -> dict[str, object]:
    """Values with the overrides in them; a part that both have is merged, where a bare word is its first setting."""
    merged = dict(values)
    for name, override in overrides.items():
        below = merged.get(name)
        if isinstance(override, dict):
            word = {_WORDS[name]: below} if isinstance(below, str) and name in _WORDS else below
            merged[name] = _over(word if isinstance(word, dict) else {}, override)
        elif override is not None:
            merged[name] = override
    return merged
