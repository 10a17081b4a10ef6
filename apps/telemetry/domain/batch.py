"""What a serving process reports, checked: contracts section 5. Parsing never raises on one bad slot, it rejects it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.kernel.errors import InvalidInput
from apps.kernel.stats.histogram import ExponentialHistogram
from apps.telemetry.domain.limits import MAX_COUNT, MAX_LATENCY_SECONDS, MAX_SUM_NS
from apps.telemetry.domain.window import UNSERVED

SLOT_SECONDS = 10
ROUTES = frozenset({"weighted", "forced", "mirrored", "probe", "assigned"})
SLOT_ROUTES = ROUTES | {UNSERVED}
COUNTS = ("total", "good", "client_4xx", "model_error", "timeout", "other_5xx")
MAX_SLOTS = 5_000
FUTURE_SECONDS = 300
PAST_SECONDS = 48 * 3600
KEPT_SAMPLES_SECONDS = 7 * 86_400


@dataclass(frozen=True, slots=True)
class SlotDelta:
    """What happened in one slot since the source's last report; counts are requests, latency in seconds."""

    slot_at: int
    route: str
    period: int
    total: int
    good: int
    client_4xx: int
    model_error: int
    timeout: int
    other_5xx: int
    latency: ExponentialHistogram


@dataclass(frozen=True, slots=True)
class Rejection:
    """A slot that was not taken: its index in the batch, a code, and a sentence."""

    index: int
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class SlotBatch:
    source: str
    seq: int
    endpoint: str
    variant: str
    slots: tuple[SlotDelta, ...]
    rejected: tuple[Rejection, ...] = ()


class _Rejected(ValueError):
    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def text(body: Mapping[str, Any], name: str, longest: int) -> str:
    """A non-empty string of at most ``longest`` characters. Raises InvalidInput naming the field."""
    value = body.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest or "\x00" in value:
        raise InvalidInput.at(f"/{name}", "invalid", f"{name} must be a text of 1 to {longest} characters.")
    return value


def parse_batch(body: Any, *, now: float) -> SlotBatch:
    """A batch from decoded JSON; raises InvalidInput when the envelope itself is unusable."""
    if not isinstance(body, Mapping):
        raise InvalidInput.at("", "invalid", "The body must be a JSON object.")
    slots = body.get("slots")
    if not isinstance(slots, Sequence) or isinstance(slots, str) or len(slots) > MAX_SLOTS:
        raise InvalidInput.at("/slots", "invalid", f"slots must be a list of at most {MAX_SLOTS}.")
    seq = body.get("seq")
    if not _is_count(seq):
        raise InvalidInput.at("/seq", "invalid", "seq must be a whole number from 0.")
    taken: list[SlotDelta] = []
    rejected: list[Rejection] = []
    for index, raw in enumerate(slots):
        try:
            taken.append(_slot(raw, now))
        except _Rejected as error:
            rejected.append(Rejection(index, error.code, str(error)))
    return SlotBatch(
        source=text(body, "source", 120),
        seq=int(seq),  # type: ignore[arg-type]
        endpoint=text(body, "endpoint", 80),
        variant=text(body, "variant", 63),
        slots=tuple(taken),
        rejected=tuple(rejected),
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _slot(raw: Any, now: float) -> SlotDelta:
    if not isinstance(raw, Mapping):
        raise _Rejected("invalid", "a slot must be an object")
    slot_at, period, route = raw.get("slot"), raw.get("period"), raw.get("route")
    if not _is_count(slot_at) or slot_at % SLOT_SECONDS:  # type: ignore[operator]
        raise _Rejected("bad_slot", "slot must be Unix seconds, a multiple of 10")
    if slot_at > now + FUTURE_SECONDS:  # type: ignore[operator]
        raise _Rejected("in_the_future", "slot lies more than five minutes ahead of this clock")
    if slot_at < now - PAST_SECONDS:  # type: ignore[operator]
        raise _Rejected("too_old", "slot is older than 48 hours")
    if not isinstance(route, str) or route not in SLOT_ROUTES:
        raise _Rejected("bad_route", f"route must be one of {', '.join(sorted(SLOT_ROUTES))}")
    if not _is_count(period) or period >= 2**31:  # type: ignore[operator]
        raise _Rejected("bad_period", "period must be a whole number from 0")
    counts = _counts(raw)
    latency = _latency(raw.get("latency"))
    if latency.total != raw["total"] - raw["client_4xx"]:
        raise _Rejected("latency_count", "latency must count every request but client_4xx")
    if latency.sum_ns > min(MAX_SUM_NS, latency.total * round(MAX_LATENCY_SECONDS * 1e9)):
        raise _Rejected(
            "sum_too_large",
            f"latency.sum is {latency.sum_seconds:.3g} s for {latency.total:,} requests: a request takes at most "
            f"{MAX_LATENCY_SECONDS:,.0f} s, and all of one slot {MAX_SUM_NS / 1e9:,.0f} s",
        )
    return SlotDelta(slot_at=slot_at, route=route, period=period, latency=latency, **counts)  # type: ignore[arg-type]


def _counts(raw: Mapping[str, Any]) -> dict[str, int]:
    for name in COUNTS:
        if not _is_count(raw.get(name)) or raw[name] > MAX_COUNT:
            raise _Rejected("bad_count", f"{name} must be a whole number from 0 to {MAX_COUNT:,}")
    if raw["route"] == UNSERVED and (raw["good"] or raw["client_4xx"] or raw["model_error"]):
        raise _Rejected("bad_count", "what no process answered is other_5xx or timeout")
    if raw["total"] != sum(raw[name] for name in COUNTS[1:]):
        raise _Rejected("counts_do_not_sum", "total is not the sum of its parts")
    return {name: int(raw[name]) for name in COUNTS}


def _latency(raw: Any) -> ExponentialHistogram:
    if not isinstance(raw, Mapping):
        raise _Rejected("bad_latency", "latency must be an object")
    if not _is_count(raw.get("zero", 0)):
        raise _Rejected("bad_latency", "latency.zero must be a whole number from 0")
    has_any = bool(raw.get("indexes")) or bool(raw.get("zero"))
    try:
        return ExponentialHistogram.from_parts(
            zero=raw.get("zero", 0),
            indexes=raw.get("indexes", []),
            counts=raw.get("counts", []),
            sum_seconds=float(raw.get("sum", 0.0)),
            minimum=float(raw["min"]) if has_any and raw.get("min") is not None else None,
            maximum=float(raw["max"]) if has_any and raw.get("max") is not None else None,
        )
    except (TypeError, ValueError, OverflowError, KeyError) as error:
        raise _Rejected("bad_latency", f"latency: {error}") from error
