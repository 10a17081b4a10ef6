"""Everything that can go wrong in the model server.

ServingError
|-- StartFailedError           the process cannot ever serve: exit code 3, one JSON line on stderr
`-- RequestError         becomes an HTTP answer in the shape of the protocol that was spoken
    |-- InvalidInputError      400  outcome client_4xx, as all the 4xx
    |-- NotFoundError          404
    |-- MethodNotAllowedError  405
    |-- BodyTimeoutError       408
    |-- TooLargeError          413
    |-- UnsupportedError       415
    |-- ModelError             500  outcome model_error: whatever predict raised, or an answer nobody can use
    |-- InternalError          500  outcome other_5xx: a fault of this program
    |-- UnavailableError       503  outcome other_5xx, with Retry-After
    `-- PredictTimeoutError    504  outcome timeout

No message may contain a value that a caller sent: messages go into answers and logs, features must not.
"""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """How one inference request ended; the counts of a slot (contracts, section 5)."""

    GOOD = "good"
    CLIENT_4XX = "client_4xx"
    MODEL_ERROR = "model_error"
    TIMEOUT = "timeout"
    OTHER_5XX = "other_5xx"


class StartCode(StrEnum):
    ARTIFACT_MISSING = "artifact_missing"
    DIGEST_MISMATCH = "digest_mismatch"
    LOAD_FAILED = "load_failed"
    WARMUP_FAILED = "warmup_failed"
    PORT_TAKEN = "port_taken"


class ServingError(Exception):
    """Base of all errors of this program."""


class StartFailedError(ServingError):
    """The start cannot succeed; trying again with the same configuration is useless until something outside changes."""

    def __init__(self, code: StartCode, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class RequestError(ServingError):
    """An answer other than 200. `column`, `expected` and `row` (index of the first offender) help the caller."""

    status = 500
    outcome = Outcome.OTHER_5XX
    retry_after_seconds: int | None = None

    def __init__(
        self, code: str, message: str, *, column: str | None = None, expected: str | None = None, row: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.column = column
        self.expected = expected
        self.row = row


class InvalidInputError(RequestError):
    status = 400
    outcome = Outcome.CLIENT_4XX


class NotFoundError(RequestError):
    status = 404
    outcome = Outcome.CLIENT_4XX


class MethodNotAllowedError(RequestError):
    status = 405
    outcome = Outcome.CLIENT_4XX

    def __init__(self, allowed: str) -> None:
        super().__init__("method_not_allowed", f"This path answers {allowed} only.", expected=allowed)
        self.allowed = allowed


class BodyTimeoutError(RequestError):
    status = 408
    outcome = Outcome.CLIENT_4XX


class TooLargeError(RequestError):
    status = 413
    outcome = Outcome.CLIENT_4XX


class UnsupportedError(RequestError):
    status = 415
    outcome = Outcome.CLIENT_4XX


class ModelError(RequestError):
    status = 500
    outcome = Outcome.MODEL_ERROR


class InternalError(RequestError):
    status = 500
    outcome = Outcome.OTHER_5XX


class UnavailableError(RequestError):
    status = 503
    outcome = Outcome.OTHER_5XX
    retry_after_seconds = 1


class PredictTimeoutError(RequestError):
    status = 504
    outcome = Outcome.TIMEOUT
