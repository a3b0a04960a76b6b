"""The demo: real conversations of two tenants under three routings, compared."""

from .errors import DemoError
from .run import run_demo

__all__ = ["DemoError", "run_demo"]
