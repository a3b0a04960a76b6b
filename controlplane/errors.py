"""What a client or an operator can be told.

ConfigError              a setting or a file of settings that cannot stand
AccountsDown             the accounts store does not answer
ApiError                 status, type, code, param: OpenAI's error shape
├── BadRequest           400
├── Unauthenticated      401
├── Forbidden            403
├── NotFound             404
├── LimitReached         429, Retry-After, x-ratelimit-*
├── Overloaded           503, Retry-After
└── TimedOut             504
"""

from collections.abc import Mapping


class ConfigError(Exception):
    """What was wanted, what came, where."""


class AccountsDown(Exception):
    """The store of tenants, limits and usage does not answer; what is known stays in use."""


class ApiError(Exception):
    """An answer that is not a completion."""

    status = 500
    kind = "server_error"
    retry_after_s: int | None = None

    def __init__(self, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message, code, param)
        self.headers: Mapping[str, str] = {}
        self.message = message
        self.code = code
        self.param = param


class BadRequest(ApiError):
    """The request itself must change."""

    status = 400
    kind = "invalid_request_error"


class Unauthenticated(ApiError):
    """No API key, or one that is nobody's."""

    status = 401
    kind = "invalid_request_error"


class NotFound(ApiError):
    """No such model or path."""

    status = 404
    kind = "invalid_request_error"


class Forbidden(ApiError):
    """A key that is known, of a tenant that may not ask."""

    status = 403
    kind = "permission_error"


class LimitReached(ApiError):
    """A tenant has used up what its rules give it; `retry_after_s` says when to come back."""

    status = 429
    kind = "rate_limit_error"

    def __init__(self, message: str, code: str, retry_after_s: int) -> None:
        super().__init__(message, code)
        self.args = (message, code, retry_after_s)
        self.retry_after_s = retry_after_s


class Overloaded(ApiError):
    """No replica can take the request now."""

    status = 503
    kind = "overloaded_error"
    retry_after_s = 1


class TimedOut(ApiError):
    """The request's time passed before its first token."""

    status = 504
    kind = "timeout_error"
