"""Hosts a model and keeps its page: what the floor above may use."""

from .embedded_engine import EmbeddedSettings
from .engine import Capacity, Delta, EngineDead, Public, Sampling, Unservable
from .engines import EngineSettings, prepare_model
from .ledger import Ending, Ledger, LedgerDown, Usage
from .lifetime import Lifetime
from .model_folder import BadModel, read_config
from .pace import pace
from .redis_ledger import RedisLedger
from .replica import Registration, Replica, ReplicaSettings
from .ticket import BadTicket, Declined, Ticket
from .usage_writer import open_usage

__all__ = [
    "BadModel", "BadTicket", "Capacity", "Declined", "Delta", "EmbeddedSettings", "Ending", "EngineDead",
    "EngineSettings", "Ledger", "LedgerDown", "Lifetime", "Public", "RedisLedger", "Registration", "Replica",
    "ReplicaSettings", "Sampling", "Ticket", "Unservable", "Usage", "open_usage", "pace", "prepare_model",
    "read_config",
]  # fmt: skip
