"""Hosts a model and keeps its page: what the floor above may use."""

from .embedded_engine import EmbeddedSettings
from .engine import Capacity, Delta, EngineDead, Sampling, Unservable
from .engines import EngineSettings, prepare_model
from .lifetime import Lifetime
from .model_folder import BadModel, read_config
from .pace import pace
from .replica import Registration, Replica, ReplicaSettings
from .ticket import BadTicket, Ticket

__all__ = [
    "BadModel",
    "BadTicket",
    "Capacity",
    "Delta",
    "EmbeddedSettings",
    "EngineDead",
    "EngineSettings",
    "Lifetime",
    "Registration",
    "Replica",
    "ReplicaSettings",
    "Sampling",
    "Ticket",
    "Unservable",
    "pace",
    "prepare_model",
    "read_config",
]
