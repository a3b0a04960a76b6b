"""Why an audit cannot be made.

AuditFailed    what is missing or went wrong, and what to do
└── NoAnswer   a request that was not answered to its end; its procedure may be tried again
"""


class AuditFailed(Exception):
    """What was wanted, what came, what to do; never an API key."""


class NoAnswer(AuditFailed):
    """No answer, or one that broke off, and why."""
