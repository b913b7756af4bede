"""The errors that a worker can answer with: HTTP status, OpenAI error type and code of each.

A message says what is wrong and what to do. It never has a stack trace, a path of the server or a key.
Knows nothing of HTTP frameworks: `http.responses` and `http.access` turn errors into responses, `client` turns
responses back into errors.
"""

from __future__ import annotations

from typing import ClassVar

from typing_extensions import TypedDict

GONE = "the upload is no longer there: add the file again"


class ErrorDetail(TypedDict, closed=True):
    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(TypedDict, closed=True):
    error: ErrorDetail


class ServingError(Exception):
    """Base of all errors. `param` names the field at fault, `retry_after` is in seconds."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str = "internal_error"

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.code
        self.retry_after = retry_after

    def body(self) -> ErrorBody:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Return `Retry-After` in whole seconds, never 0: a client that obeys it must not spin."""
        if self.retry_after is None:
            return {}
        return {"Retry-After": str(max(1, round(self.retry_after)))}


class BadValueError(ServingError):
    status, type, code = 400, "invalid_request_error", "bad_value"


class UnauthorizedError(ServingError):
    status, type, code = 401, "authentication_error", "invalid_api_key"


class ReadOnlyError(ServingError):
    status, type, code = 403, "permission_error", "read_only"


class NotFoundError(ServingError):
    status, type, code = 404, "not_found_error", "not_found"


class TooLargeError(ServingError):
    status, type, code = 413, "invalid_request_error", "too_large"


class NotAnImageError(ServingError):
    status, type, code = 415, "invalid_request_error", "not_an_image"


class UnreadableError(ServingError):
    status, type, code = 422, "invalid_request_error", "unreadable"


class BusyError(ServingError):
    status, type, code = 429, "rate_limit_error", "queue_full"


class NotReadyError(ServingError):
    status, type, code = 503, "service_unavailable", "not_ready"


class BadVectorError(ServingError):
    """The model returned something else than a finite unit vector."""

    status, type, code = 500, "server_error", "bad_vector"


class MethodNotAllowedError(ServingError):
    status, type, code = 405, "invalid_request_error", "method_not_allowed"


KINDS = (
    BadValueError, UnauthorizedError, ReadOnlyError, NotFoundError, MethodNotAllowedError, TooLargeError,
    NotAnImageError, UnreadableError, BusyError, NotReadyError, ServingError,
)  # fmt: skip
BY_STATUS: dict[int, type[ServingError]] = {kind.status: kind for kind in KINDS}


def make_error(status: int, body: object, retry_after: float | None = None) -> ServingError:
    """Return the error in a worker's answer; `body` is its decoded JSON, or anything else."""
    detail = body.get("error") if isinstance(body, dict) else None
    if not isinstance(detail, dict):
        detail = {}
    kind = BY_STATUS.get(status, ServingError)
    message = str(detail.get("message") or f"the server answered HTTP {status} without an error body")
    texts = {name: value for name in ("param", "code") if isinstance(value := detail.get(name), str)}
    return kind(message, retry_after=retry_after, **texts)
