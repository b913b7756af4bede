"""The errors that a worker can answer with: HTTP status, OpenAI error type and code of each.

A message says what is wrong and what to do. It never has a stack trace, a path of the server or a key.
Knows nothing of HTTP frameworks: `http.responses` and `http.access` turn errors into responses, `client` turns
responses back into errors.
"""

from __future__ import annotations

import json
from typing import ClassVar

from typing_extensions import TypedDict

FOREIGN = "foreign_error"
"""The code of a failure that something between us and the worker answers with: Modal's edge, a proxy."""
GONE = "the upload is no longer there: add the file again"


class ErrorDetail(TypedDict, closed=True):
    """An error as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(TypedDict, closed=True):
    """The answer of a request that failed."""

    error: ErrorDetail


class ServingError(Exception):
    """Base of all errors. `param` names the field at fault, `retry_after` is in seconds."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str = "internal_error"

    def __init_subclass__(cls, status: int | None = None, type: str | None = None, code: str | None = None) -> None:
        cls.status, cls.type, cls.code = status or cls.status, type or cls.type, code or cls.code

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
        return {} if self.retry_after is None else {"Retry-After": str(max(1, round(self.retry_after)))}


class BadValueError(ServingError, status=400, type="invalid_request_error", code="bad_value"):
    """A value that is not allowed, or a body that is none."""


class UnauthorizedError(ServingError, status=401, type="authentication_error", code="invalid_api_key"):
    """A key is missing or wrong."""


class ReadOnlyError(ServingError, status=403, type="permission_error", code="read_only"):
    """A change on a page that may only be searched."""


class NotFoundError(ServingError, status=404, type="not_found_error", code="not_found"):
    """No such route, model or page."""


class MethodNotAllowedError(ServingError, status=405, type="invalid_request_error", code="method_not_allowed"):
    """The route has no such method."""


class TooLargeError(ServingError, status=413, type="invalid_request_error", code="too_large"):
    """A limit of the settings is exceeded."""


class NotAnImageError(ServingError, status=415, type="invalid_request_error", code="not_an_image"):
    """The bytes are no image of a kind that is read."""


class UnreadableError(ServingError, status=422, type="invalid_request_error", code="unreadable"):
    """A file or image that is damaged."""


class BusyError(ServingError, status=429, type="rate_limit_error", code="queue_full"):
    """Too much is waiting already."""


class BadVectorError(ServingError, code="bad_vector"):
    """The model returned something else than a finite unit vector."""


class NotReadyError(ServingError, status=503, type="service_unavailable", code="not_ready"):
    """There is no worker now, or it did not answer in time."""


BY_STATUS = {kind.status: kind for kind in ServingError.__subclasses__()} | {ServingError.status: ServingError}


def make_error(status: int, body: bytes | bytearray, retry_after: float | None = None) -> ServingError:
    """Return the error in a worker's answer; `body` is an ErrorBody in JSON, or anything else."""
    try:
        texts = {name: value for name, value in json.loads(body)["error"].items() if isinstance(value, str)}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        texts = {}
    message = texts.get("message") or f"the server answered HTTP {status} without an error body"
    kind: type[ServingError] = BY_STATUS.get(status, ServingError)
    code = texts.get("code") or (FOREIGN if status >= 500 and kind is ServingError and not texts else None)
    return kind(message, retry_after=retry_after, param=texts.get("param"), code=code)
