"""Exposures and outcomes as they are reported: columns of equal length, or a list of objects. Pure.

One bad item rejects itself, with its index, its field and a sentence, and stops no other. A bad envelope is refused as
a whole. Times are RFC 3339 with an offset; without a column of times everything happened now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from apps.experiments.domain.words import ARMS
from apps.kernel.errors import InvalidInput

MAX_ROWS = 5_000
MAX_TEXT = 200
MAX_DIMENSION_TEXT = 40
FUTURE = timedelta(seconds=60)
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Rejection:
    """An item that was not taken."""

    index: int
    field: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class ExposureItem:
    """``arm`` and ``variant``: what the caller says it used and who answered; "" where it does not say."""

    index: int
    unit: str
    at: datetime
    arm: str = ""
    variant: str = ""
    dimensions: Mapping[str, str] = field(default_factory=dict)
    covariate: float | None = None


@dataclass(frozen=True, slots=True)
class OutcomeItem:
    index: int
    event_id: str
    unit: str
    event: str
    value: float
    at: datetime


class _Refused(ValueError):
    def __init__(self, name: str, code: str, detail: str) -> None:
        super().__init__(detail)
        self.name, self.code = name, code


def unit_key(experiment_id: str, unit: str) -> UUID:
    """What is stored of a unit: 16 bytes of SHA-256, so that nobody's name stands in the tables."""
    return _digest(experiment_id, "unit", unit)


def event_key(experiment_id: str, event_id: str) -> UUID:
    return _digest(experiment_id, "event", event_id)


def hour_of(at: datetime) -> int:
    """Hours since 1970: the cohort that an exposure belongs to."""
    return int(at.timestamp()) // SECONDS_PER_HOUR


EXPOSURE_COLUMNS = ("units", "at", "arms", "variants", "covariates")
OUTCOME_COLUMNS = ("ids", "units", "events", "values", "at")


def exposures_parse(
    body: Mapping[str, Any], *, now: datetime, dimensions: Sequence[str]
) -> tuple[list[ExposureItem], list[Rejection]]:
    """``{"units": […], "at": […], "arms": […], "variants": […], "covariates": […], "dimensions": {"country": […]}}`` or
    ``{"exposures": [{"unit", "at", "arm", "variant", "covariate", "dimensions"}]}``. Raises InvalidInput."""
    rows = _rows(body, "exposures", EXPOSURE_COLUMNS, required=("units",))
    columns = body.get("dimensions") or {}
    known = set(dimensions)
    if "exposures" in body and columns:
        sentence = "With a list of exposures every item carries its own dimensions; columns belong to units."
        raise InvalidInput.at("/dimensions", "invalid", sentence)
    _check_dimensions(columns, known, len(rows))
    taken: list[ExposureItem] = []
    rejected: list[Rejection] = []
    for index, row in enumerate(rows):
        said = row.get("dimensions") or {name: column[index] for name, column in columns.items()}
        try:
            taken.append(_exposure(index, row, said, known, now))
        except _Refused as refused:
            rejected.append(Rejection(index, refused.name, refused.code, str(refused)))
    return taken, rejected


def outcomes_parse(
    body: Mapping[str, Any], *, now: datetime, events: frozenset[str]
) -> tuple[list[OutcomeItem], list[Rejection]]:
    """``{"ids": […], "units": […], "events": […], "values": […], "at": […]}`` or ``{"outcomes": [{"id", "unit",
    "event", "value", "at"}]}``; a value that is left out is 1. Raises InvalidInput."""
    rows = _rows(body, "outcomes", OUTCOME_COLUMNS, required=("ids", "units", "events"))
    taken: list[OutcomeItem] = []
    rejected: list[Rejection] = []
    for index, row in enumerate(rows):
        try:
            taken.append(_outcome(index, row, events, now))
        except _Refused as refused:
            rejected.append(Rejection(index, refused.name, refused.code, str(refused)))
    return taken, rejected


def _exposure(
    index: int, row: Mapping[str, Any], said: Mapping[str, Any], known: set[str], now: datetime
) -> ExposureItem:
    arm = row.get("arm") or ""
    if arm and arm not in ARMS:
        raise _Refused("arm", "unknown_arm", f"arm {arm!r} is none of {', '.join(ARMS)}.")
    if not isinstance(said, Mapping):
        raise _Refused("dimensions", "invalid", "dimensions must be an object of names and values.")
    strangers = sorted(set(said) - known)
    if strangers:
        raise _Refused("dimensions", "unknown_dimension", f"{strangers[0]!r} is no dimension of this experiment.")
    return ExposureItem(
        index,
        _text(row, "unit"),
        _moment(row, now),
        arm,
        _text(row, "variant", is_needed=False),
        {name: str(value)[:MAX_DIMENSION_TEXT] for name, value in said.items() if value not in (None, "")},
        _number(row, "covariate") if row.get("covariate") is not None else None,
    )


def _outcome(index: int, row: Mapping[str, Any], events: frozenset[str], now: datetime) -> OutcomeItem:
    event = _text(row, "event")
    if event not in events:
        known = ", ".join(sorted(events)) or "none"
        raise _Refused("event", "unknown_event", f"No metric counts {event!r}; the design counts {known}.")
    value = 1.0 if row.get("value") is None else _number(row, "value")
    return OutcomeItem(index, _text(row, "id"), _text(row, "unit"), event, value, _moment(row, now))


def _rows(
    body: Mapping[str, Any], listed: str, columns: Sequence[str], *, required: Sequence[str]
) -> Sequence[Mapping[str, Any]]:
    """One mapping per item, singular names: columns are turned around."""
    if listed in body:
        rows = body[listed]
        if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
            raise InvalidInput.at(f"/{listed}", "invalid", f"{listed} must be a list of objects.")
    else:
        given = {name: body[name] for name in columns if body.get(name) is not None}
        for name in required:
            if name not in given:
                raise InvalidInput.at(f"/{name}", "required", f"Give the column {name}, or a list {listed}.")
        length = len(given[required[0]]) if isinstance(given[required[0]], list) else 0
        for name, column in given.items():
            if not isinstance(column, list) or len(column) != length:
                raise InvalidInput.at(f"/{name}", "unequal_columns", f"{name} must be a list of {length:,} values.")
        singular = [_singular(name) for name in given]
        rows = [dict(zip(singular, values, strict=True)) for values in zip(*given.values(), strict=True)]
    if len(rows) > MAX_ROWS:
        raise InvalidInput.at(f"/{listed}", "too_many", f"At most {MAX_ROWS:,} items at once, got {len(rows):,}.")
    return rows


def _check_dimensions(columns: Any, known: set[str], length: int) -> None:
    if not isinstance(columns, Mapping):
        raise InvalidInput.at("/dimensions", "invalid", "dimensions must be an object of columns.")
    for name, column in columns.items():
        if name not in known:
            raise InvalidInput.at(f"/dimensions/{name}", "unknown_dimension", f"{name!r} is no dimension of this one.")
        if not isinstance(column, list) or len(column) != length:
            raise InvalidInput.at(
                f"/dimensions/{name}", "unequal_columns", f"dimensions/{name} must be a list of {length:,} values."
            )


def _singular(name: str) -> str:
    return name if name == "at" else name[:-1]


def _text(row: Mapping[str, Any], name: str, *, is_needed: bool = True) -> str:
    value = row.get(name)
    if not is_needed and value in (None, ""):
        return ""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or "\x00" in value:
        raise _Refused(name, "invalid", f"{name} must be a text of 1 to {MAX_TEXT} characters.")
    return value


def _number(row: Mapping[str, Any], name: str) -> float:
    value = row[name]
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, int | float) or not abs(value) <= 1e15:  # NaN too; isfinite would raise for 400 digits
        raise _Refused(name, "invalid", f"{name} must be a finite number of at most 1e15.")
    return float(value)


def _moment(row: Mapping[str, Any], now: datetime) -> datetime:
    value = row.get("at")
    if value is None:
        return now
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise _Refused("at", "invalid", "at must be a time with its offset, for example 2026-03-01T12:00:00Z.")
    if at > now + FUTURE:
        raise _Refused("at", "in_the_future", "at lies more than a minute ahead of this clock.")
    try:
        return at.astimezone(UTC)
    except OverflowError:  # before the year 1, once it is in UTC
        raise _Refused("at", "invalid", "at lies before the year 1.") from None


def _digest(experiment_id: str, kind: str, text: str) -> UUID:
    return UUID(bytes=hashlib.sha256(f"{experiment_id}\0{kind}\0{text}".encode()).digest()[:16])
