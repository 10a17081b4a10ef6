"""Errors as the MLflow client reads them: ``{"error_code", "message"}`` with the status that belongs to the code.

The client repeats 408, 429 and every 5xx for minutes and then drops the message, so whatever a repetition cannot cure
is a 4xx. Two texts are matched by regular expressions in scripts and are kept to the letter.
"""

from __future__ import annotations

import orjson

from apps.kernel.errors import Conflict, DomainError, ErrorKind
from apps.registry.api.mlflow.door import Unauthenticated

STATUS = {
    "INVALID_PARAMETER_VALUE": 400,
    "RESOURCE_ALREADY_EXISTS": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "RESOURCE_CONFLICT": 409,
    "INTERNAL_ERROR": 500,
    "TEMPORARILY_UNAVAILABLE": 503,
}
_BY_KIND = {
    ErrorKind.INVALID: "INVALID_PARAMETER_VALUE",
    ErrorKind.REFUSED: "INVALID_PARAMETER_VALUE",
    ErrorKind.CONFLICT: "RESOURCE_CONFLICT",
    ErrorKind.NOT_FOUND: "RESOURCE_DOES_NOT_EXIST",
    ErrorKind.FORBIDDEN: "PERMISSION_DENIED",
    ErrorKind.UNAVAILABLE: "TEMPORARILY_UNAVAILABLE",
}


def fault_answer(code: str, message: str) -> tuple[int, bytes]:
    return STATUS[code], orjson.dumps({"error_code": code, "message": message})


def fault_of(error: DomainError) -> tuple[int, bytes]:
    """Status and body for an error of the services."""
    if isinstance(error, Unauthenticated):
        return fault_answer("UNAUTHENTICATED", error.detail)
    code = _BY_KIND[error.kind]
    if isinstance(error, Conflict) and error.code == "model_exists":
        code = "RESOURCE_ALREADY_EXISTS"
    return fault_answer(code, _text(error))


def _text(error: DomainError) -> str:
    named = error.extra
    match error.code:
        case "model_unknown" if "model" in named:
            return f"Registered Model with name={named['model']} not found"
        case "model_exists" if "model" in named:
            return f"Registered Model (name={named['model']}) already exists."
        case "version_unknown" if "model" in named:
            return f"Model Version (name={named['model']}, version={named['version']}) not found"
        case _:
            return error.detail
