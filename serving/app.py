"""The ASGI application: routes of three protocols on one model (contracts, section 4).

Open Inference Protocol v2:  /v2  /v2/health/live  /v2/health/ready  /v2/models/{model}[/versions/{v}][/ready|/infer]
MLflow and SageMaker:        /ping  /health  /version  /invocations
Prometheus:                  /metrics
"""

from __future__ import annotations

import asyncio
import time
import traceback
from dataclasses import dataclass, replace

import numpy as np
import orjson
import structlog

from serving import protocols
from serving.batcher import Batcher
from serving.columns import TYPE_NAMES, ColumnType
from serving.errors import (
    InternalError,
    MethodNotAllowedError,
    ModelError,
    NotFoundError,
    PredictTimeoutError,
    RequestError,
    UnsupportedError,
)
from serving.http import ClientGoneError, Receive, Request, Response, Scope, Send, read_body, read_request, respond
from serving.logs import LogLimiter
from serving.metrics import Cell, SharedMetrics
from serving.model import LoadedModel
from serving.outputs import Outputs, oip_datatype
from serving.recorder import Recorder
from serving.schema import Batchable
from serving.settings import Settings

log = structlog.get_logger(__name__)

# A predict call that runs this many timeouts is taken for hung: the instance is no longer ready.
STALLED_TIMEOUTS = 3
_OIP_TYPES = {
    ColumnType.BOOLEAN: "BOOL",
    ColumnType.INTEGER: "INT32",
    ColumnType.LONG: "INT64",
    ColumnType.FLOAT: "FP32",
    ColumnType.DOUBLE: "FP64",
}


@dataclass(slots=True)
class _Prediction:
    """What is known about one inference request when its answer is made."""

    inputs: Batchable | None = None
    outputs: Outputs | None = None
    size: int = 0  # bytes of request and answer


class Application:
    """One worker's application. `is_draining` turns ready off and closes every answered connection."""

    def __init__(
        self, settings: Settings, model: LoadedModel, batcher: Batcher, recorder: Recorder, shared: SharedMetrics
    ) -> None:
        self._settings = settings
        self._model = model
        self._batcher = batcher
        self._recorder = recorder
        self._shared = shared
        self._limiter = LogLimiter()
        self._identity = [
            (b"x-pilothouse-variant", settings.variant.encode()),
            (b"x-pilothouse-version", settings.version.encode()),
        ]
        self.is_draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = read_request(scope)
        try:
            response = await self._route(request, receive)
        except ClientGoneError:
            return
        headers = [*response.headers, (b"x-request-id", request.id.encode()), *self._identity]
        if self.is_draining:
            headers.append((b"connection", b"close"))
        if request.method == "HEAD":
            response = replace(response, body=b"")
        await respond(send, replace(response, headers=headers))

    async def _route(self, request: Request, receive: Receive) -> Response:
        path = request.path.rstrip("/") or "/"
        if path == "/invocations":
            return await self._answer(request, receive, is_infer=False)
        parts = path.split("/")[1:]
        try:
            if parts[:2] == ["v2", "models"] and parts[-1] == "infer":
                return await self._answer(request, receive, is_infer=True)
            if request.method not in ("GET", "HEAD"):
                raise MethodNotAllowedError("GET") if self._is_known(path, parts) else _no_such_path()
            return self._read(path, parts)
        except RequestError as error:
            return _refusal(error, is_infer=True)

    def _is_known(self, path: str, parts: list[str]) -> bool:
        try:
            self._read(path, parts)
        except NotFoundError:
            return False
        return True

    def _read(self, path: str, parts: list[str]) -> Response:
        """Everything that is answered from memory. Raises NotFoundError."""
        match path:
            case "/v2/health/live":
                return _json({"live": True})
            case "/v2/health/ready" | "/ping" | "/health":
                return self._readiness()
            case "/v2":
                name = {"name": "pilothouse-serving", "version": self._settings.version}
                return _json({**name, "extensions": []})
            case "/version":
                return Response(200, self._model.mlflow_version.encode(), b"text/plain; charset=utf-8")
            case "/metrics":
                self._recorder.metrics.put(Cell.QUEUE_DEPTH, self._batcher.depth)
                return Response(200, self._shared.render(), b"text/plain; version=0.0.4; charset=utf-8")
        if parts[:2] != ["v2", "models"]:
            raise _no_such_path()
        match self._inside_model(parts):
            case []:
                return self._metadata()
            case ["ready"]:
                return self._readiness()
        raise _no_such_path()

    def _inside_model(self, parts: list[str]) -> list[str]:
        """What follows /v2/models/{model}[/versions/{v}]. Raises NotFoundError for another model or version."""
        rest = parts[3:]
        if parts[2:3] != [self._settings.model]:
            raise NotFoundError(
                "unknown_model", "This server has no model of that name.", expected=self._settings.model
            )
        if rest[:1] == ["versions"]:
            if rest[1:2] != [self._settings.version]:
                expected = self._settings.version
                raise NotFoundError("unknown_version", "This server has another version.", expected=expected)
            rest = rest[2:]
        return rest

    def _readiness(self) -> Response:
        reason = None
        if self.is_draining:
            reason = "draining"
        elif self._batcher.busy_seconds > STALLED_TIMEOUTS * self._settings.limits.timeout_seconds:
            reason = "model_stalled"
        if reason is None:
            return _json({"ready": True})
        return Response(503, orjson.dumps({"ready": False, "reason": reason}))

    def _metadata(self) -> Response:
        outputs = zip(self._model.output_names, self._model.output_types, strict=True)
        return _json(
            {
                "name": self._settings.model,
                "versions": [self._settings.version],
                "platform": "mlflow_pyfunc",
                "inputs": [
                    {
                        "name": column.name,
                        "datatype": _OIP_TYPES.get(column.type, "BYTES"),
                        "shape": [-1],
                        "parameters": {"required": column.required, "expected": column.expected},
                    }
                    for column in self._model.schema.columns
                ],
                "outputs": [
                    {"name": name or "predictions", "datatype": _oip_type(kind), "shape": [-1]}
                    for name, kind in outputs
                ],
            }
        )

    async def _answer(self, request: Request, receive: Receive, *, is_infer: bool) -> Response:
        """One inference request from its body to a counted, logged answer."""
        limits = self._settings.limits
        self._recorder.metrics.add(Cell.IN_FLIGHT)
        started = time.perf_counter()
        prediction = _Prediction()
        error: RequestError | None = None
        try:
            body = await read_body(request, receive, limits.max_bytes, limits.timeout_seconds)
            started = time.perf_counter()  # a caller's slow upload is not the model's latency
            response = Response(200, await self._predicted(request, body, prediction, is_infer=is_infer))
        except RequestError as refused:
            error = refused
            response = _refusal(refused, is_infer=is_infer)
        except ClientGoneError:
            raise
        except Exception as fault:  # noqa: BLE001  counted, logged and answered below
            # Only a fault of this program comes here; uvicorn would answer it, but nobody would count it.
            error = InternalError("internal_error", "The model server failed on this request.")
            error.__cause__ = fault
            response = _refusal(error, is_infer=is_infer)
        finally:
            self._recorder.metrics.add(Cell.IN_FLIGHT, -1)
            # Whichever worker is asked for /metrics adds up what all have written down.
            self._recorder.metrics.put(Cell.QUEUE_DEPTH, self._batcher.depth)
        seconds = time.perf_counter() - started
        if error is not None:
            self._log(request, error)
        self._recorder.record(
            request,
            seconds=seconds,
            status=response.status,
            outcome=error.outcome if error is not None else None,
            inputs=prediction.inputs,
            outputs=prediction.outputs,
            size=prediction.size + len(response.body),
        )
        return response

    async def _predicted(self, request: Request, body: bytes, prediction: _Prediction, *, is_infer: bool) -> bytes:
        if request.method != "POST":
            raise MethodNotAllowedError("POST")
        schema, max_rows = self._model.schema, self._settings.limits.max_rows
        if is_infer:
            if self._inside_model(request.path.rstrip("/").split("/")[1:]) != ["infer"]:
                raise _no_such_path()
            if b"inference-header-content-length" in request.headers:
                message = "Binary tensor data is not supported; send every input's 'data' as JSON."
                raise UnsupportedError("binary_not_supported", message, expected="JSON without binary data")
            decoded = protocols.decode_infer(body, schema, max_rows)
        else:
            decoded = protocols.decode_invocation(body, request.content_type, schema, max_rows)
        inputs = schema.validate(decoded.columns, decoded.rows)
        prediction.inputs, prediction.size = inputs, len(body)
        outputs = await self._predict(inputs)
        outputs.check_finite()
        prediction.outputs = outputs
        try:
            if is_infer:
                return protocols.encode_infer(outputs, self._settings.model, self._settings.version, decoded.id)
            return protocols.encode_invocation(outputs)
        except orjson.JSONEncodeError as error:
            prediction.outputs = None
            raise ModelError("model_output_invalid", "The model's answer has no JSON form.") from error

    async def _predict(self, inputs: Batchable) -> Outputs:
        seconds = self._settings.limits.timeout_seconds
        try:
            async with asyncio.timeout(seconds) as deadline:
                return await self._batcher.submit(inputs)
        except RequestError:
            raise
        except Exception as error:  # whatever the model raised, a TimeoutError of its own included
            if deadline.expired():
                message = f"The model did not answer within {seconds:g} seconds."
                raise PredictTimeoutError("predict_timeout", message) from None
            # The model's own message may quote the row, so it goes neither to the caller nor into the log.
            raise ModelError("model_error", "The model raised an error on this input.") from error

    def _log(self, request: Request, error: RequestError) -> None:
        suppressed = self._limiter.admit()
        if suppressed is None:
            return
        fields: dict[str, object] = {
            "request_id": request.id,
            "status": error.status,
            "code": error.code,
            "column": error.column,
            "route": request.route.value,
            "suppressed": suppressed or None,
        }
        cause = error.__cause__
        if error.status == 500 and cause is not None:
            fields["raised"] = type(cause).__name__
            frames = traceback.extract_tb(cause.__traceback__)[-3:]
            fields["where"] = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        write = log.info if error.status < 500 else log.warning
        write("request_failed", **{name: value for name, value in fields.items() if value is not None})


def _json(document: dict[str, object]) -> Response:
    return Response(200, orjson.dumps(document))


def _no_such_path() -> NotFoundError:
    return NotFoundError("not_found", "This server has no such path.")


def _refusal(error: RequestError, *, is_infer: bool) -> Response:
    headers: list[tuple[bytes, bytes]] = []
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
    if isinstance(error, MethodNotAllowedError):
        headers.append((b"allow", error.allowed.encode()))
    body = protocols.infer_error(error) if is_infer else protocols.invocation_error(error)
    return Response(error.status, body, headers=headers)


def _oip_type(kind: str) -> str:
    if kind in TYPE_NAMES:
        return _OIP_TYPES.get(ColumnType(kind), "BYTES")
    try:
        return oip_datatype(np.empty(0, dtype=kind))  # outputs given as an array carry a numpy type
    except TypeError:
        return "BYTES"
