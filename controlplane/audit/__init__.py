"""Whether tenants can see one another: the published procedure, against a live deployment."""

from .commands import audit_command
from .errors import AuditFailed

__all__ = ["AuditFailed", "audit_command"]
