"""What tenants have used, and what it costs."""

from .commands import usage_command

__all__ = ["usage_command"]
