"""What a client or an operator can be told.

ConfigError              a setting or a file of settings that cannot stand
ApiError                 status, type, code, param: OpenAI's error shape
├── BadRequest           400
├── Unauthenticated      401
├── NotFound             404
├── Overloaded           503, Retry-After
└── TimedOut             504
"""


class ConfigError(Exception):
    """What was wanted, what came, where."""


class ApiError(Exception):
    """An answer that is not a completion."""

    status = 500
    kind = "server_error"
    retry_after_s: int | None = None

    def __init__(self, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message, code, param)
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


class Overloaded(ApiError):
    """No replica can take the request now."""

    status = 503
    kind = "overloaded_error"
    retry_after_s = 1


class TimedOut(ApiError):
    """The request's time passed before its first token."""

    status = 504
    kind = "timeout_error"
