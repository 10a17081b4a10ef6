"""CloudEvents 1.0 over HTTP (structured, binary, batch) from KServe's inference logger, joined to samples.

The logger sends one event per request and one per response, with the same id, the payload as data, and neither latency
nor status; failed requests are not logged. So these feed the inference log and drift, never an objective.
"""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import orjson

from apps.kernel.errors import InvalidInput
from apps.telemetry.domain.batch import FUTURE_SECONDS, KEPT_SAMPLES_SECONDS
from apps.telemetry.domain.fill import Level
from apps.telemetry.domain.limits import packed

REQUEST = "org.kubeflow.serving.inference.request"
RESPONSE = "org.kubeflow.serving.inference.response"
MAX_EVENTS = 5_000
MAX_WAITING = 10_000
MAX_WAITING_BYTES = 32 * 1024 * 1024
JOIN_SECONDS = 60.0
SPREAD = 4
"""Values per byte of JSON that a payload may have as columns. Written out, a value takes two bytes at least; far more
of them means rows of which each has columns of its own, and a few megabytes would become billions of gaps."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; ``data`` is decoded JSON."""

    id: str
    type: str
    source: str
    at: float | None
    attributes: Mapping[str, str]
    data: Any
    size: int


def events_of(headers: Mapping[bytes, bytes], raw: bytes, *, now: float) -> list[Event | str]:
    """The events of one request; a text where one cannot be taken. InvalidInput when the whole cannot be read."""
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind == b"application/cloudevents-batch+json":
        body = _json(raw)
        if not isinstance(body, list) or len(body) > MAX_EVENTS:
            raise InvalidInput.at("", "invalid", f"A batch is a list of at most {MAX_EVENTS} events.")
        return [_structured(one, now) for one in body]
    if kind == b"application/cloudevents+json":
        return [_structured(_json(raw), now)]
    if b"ce-specversion" not in headers:
        raise InvalidInput.at(
            "", "no_event", "Neither a CloudEvents content type nor a ce-specversion header is there."
        )
    attributes = {
        name[3:].decode("latin-1"): unquote(value.decode("latin-1"))
        for name, value in headers.items()
        if name.startswith(b"ce-")
    }
    try:
        data = orjson.loads(raw) if raw else None
    except orjson.JSONDecodeError:
        return ["the payload is not JSON"]
    return [_event(attributes, data, len(raw), now)]


def _json(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidInput.at("", "bad_json", f"The body is not JSON: {error}.") from error


def _structured(body: Any, now: float) -> Event | str:
    if not isinstance(body, Mapping):
        return "an event must be an object"
    data, size = body.get("data"), 0
    if "data_base64" in body:
        try:
            raw = base64.b64decode(str(body["data_base64"]), validate=True)
            data = orjson.loads(raw)
        except (binascii.Error, ValueError):
            return "data_base64 is not base64 of JSON"
        size = len(raw)
    elif isinstance(data, str):
        try:
            data = orjson.loads(data)
        except orjson.JSONDecodeError:
            return "the payload is not JSON"
    attributes = {name: str(value) for name, value in body.items() if name not in {"data", "data_base64"}}
    return _event(attributes, data, size, now)


def _event(attributes: dict[str, str], data: Any, size: int, now: float) -> Event | str:
    if not attributes.get("specversion", "").startswith("1."):
        return "specversion must be 1.0"
    for name in ("id", "type", "source"):
        if not attributes.get(name) or "\x00" in attributes[name]:
            return f"the event has no {name}"
    if len(attributes["id"]) > 128:
        return "id is longer than 128 characters"
    if attributes["type"] not in (REQUEST, RESPONSE):
        return f"the type is neither {REQUEST} nor …response"
    try:
        weight = _weighed(attributes["type"], data)
    except ValueError as error:
        return f"the payload {error}"
    at = None
    if "time" in attributes:
        try:
            moment = datetime.fromisoformat(attributes["time"].replace("Z", "+00:00"))
            at = moment.timestamp() if moment.tzinfo else None
        except (ValueError, OverflowError):
            return "time is not RFC 3339"
    if at is not None and at > now + FUTURE_SECONDS:
        return "time lies more than five minutes in the future"
    if at is not None and at < now - KEPT_SAMPLES_SECONDS:
        return "time is older than the seven days for which samples are kept"
    return Event(attributes["id"], attributes["type"], attributes["source"], at, attributes, data, size or weight)


def _weighed(kind: str, data: Any) -> int:
    """Bytes of the payload as JSON. ValueError, with the end of a sentence, where it cannot be taken."""
    if not isinstance(data, Mapping):
        raise ValueError("must be an object")  # noqa: TRY004  answered as bad input like the rest
    weight = len(packed(data))
    if kind == REQUEST and _spread(data) > SPREAD * weight:
        raise ValueError("has rows with too little in common to be columns")
    return weight


def _spread(payload: Mapping[str, Any]) -> int:
    """How many values ``columns_of`` makes of the rows of ``instances``, gaps included."""
    instances = payload.get("instances")
    if isinstance(payload.get("inputs"), list) or not isinstance(instances, list):
        return 0
    if all(isinstance(row, Mapping) for row in instances):
        return len(instances) * len({name for row in instances for name in row})
    if all(isinstance(row, list) for row in instances):
        return len(instances) * max((len(row) for row in instances), default=0)
    return len(instances)


def columns_of(payload: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Features as columns: KServe v1 ``instances`` (objects or rows), or v2 ``inputs`` (named tensors)."""
    tensors = payload.get("inputs")
    if isinstance(tensors, list):
        return {
            str(one.get("name", place)): _rows(one) for place, one in enumerate(tensors) if isinstance(one, Mapping)
        }
    instances = payload.get("instances")
    if not isinstance(instances, list):
        instances = [payload]
    if all(isinstance(row, Mapping) for row in instances):
        names = list(dict.fromkeys(name for row in instances for name in row))
        return {str(name): [row.get(name) for row in instances] for name in names}
    if all(isinstance(row, list) for row in instances):
        width = max((len(row) for row in instances), default=0)
        return {f"f{place}": [row[place] if place < len(row) else None for row in instances] for place in range(width)}
    return {"f0": list(instances)}


def outputs_of(payload: Mapping[str, Any]) -> list[Any]:
    """v1 ``predictions``, or v2 ``outputs``: one entry per row."""
    predictions = payload.get("predictions")
    if isinstance(predictions, list):
        return predictions
    tensors = payload.get("outputs")
    if isinstance(tensors, list):
        named = {
            str(one.get("name", place)): _rows(one) for place, one in enumerate(tensors) if isinstance(one, Mapping)
        }
        if len(named) == 1:
            return next(iter(named.values()))
        lengths = {len(values) for values in named.values()}
        if len(lengths) == 1:
            return [{name: values[row] for name, values in named.items()} for row in range(lengths.pop())]
    return [payload]


def _rows(tensor: Mapping[str, Any]) -> list[Any]:
    """A v2 tensor's data as rows: flat data of shape [n, k] is n lists of k, of [n] or [n, 1] n values."""
    data, shape = tensor.get("data"), tensor.get("shape")
    if not isinstance(data, list):
        return [data]
    if isinstance(shape, list) and shape and isinstance(shape[0], int) and shape[0] > 0 and len(data) % shape[0] == 0:
        width = len(data) // shape[0]
        if width > 1:
            return [data[row * width : (row + 1) * width] for row in range(shape[0])]
    return data


@dataclass(slots=True)
class EventJoin:
    """Requests wait here for their responses, and the other way round; bounded in number and bytes."""

    max_waiting: int = MAX_WAITING
    max_bytes: int = MAX_WAITING_BYTES
    _waiting: OrderedDict[tuple[str, str, str], tuple[float, dict[str, Any], int]] = field(default_factory=OrderedDict)
    _done: list[dict[str, Any]] = field(default_factory=list)
    _bytes: int = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._done)

    @property
    def levels(self) -> tuple[Level, Level]:
        """Each bound, and how much of it is taken."""
        return Level("samples", len(self), self.max_waiting), Level("bytes of samples", self._bytes, self.max_bytes)

    def add(self, endpoint: str, variant: str, period: int, event: Event, *, now: float) -> bool:
        """False when there is no room: the caller counts a drop."""
        key = (endpoint, variant, event.id)
        known = self._waiting.get(key)
        if self._bytes + event.size > self.max_bytes or (known is None and len(self) >= self.max_waiting):
            return False
        self._bytes += event.size
        sample = known[1] if known else _blank(endpoint, variant, period, event, now)
        part = "inputs" if event.type == REQUEST else "outputs"
        sample[part] = columns_of(event.data) if event.type == REQUEST else outputs_of(event.data)
        if event.type == REQUEST and event.at is not None:
            sample["at"] = event.at
        sample["size"] += event.size
        if sample["inputs"] is not None and sample["outputs"] is not None:
            self._waiting.pop(key, None)
            self._done.append(sample)
        else:
            # Who repeats one half does not wait anew: it stands at its first place, and all behind it wait for it.
            self._waiting[key] = (known[0] if known else now, sample, event.size)
        return True

    def take(self, *, now: float) -> list[dict[str, Any]]:
        """Whole samples, and those that waited longer than JOIN_SECONDS for their other half."""
        taken, self._done = self._done, []
        while self._waiting:
            key, (since, sample, _) = next(iter(self._waiting.items()))
            if since > now - JOIN_SECONDS:
                break
            del self._waiting[key]
            taken.append(sample)
        self._bytes = max(0, self._bytes - sum(sample["size"] for sample in taken))
        return taken


def _blank(endpoint: str, variant: str, period: int, event: Event, now: float) -> dict[str, Any]:
    return {
        "endpoint": endpoint, "variant": variant, "request_id": event.id, "period": period,
        "at": now if event.at is None else event.at, "inputs": None, "outputs": None, "size": 0,
    }  # fmt: skip
