"""Single observations in columns or as a list of objects, bucketed into cells by a few bincounts.

A body of columns is ``{endpoint, variant, ts[], latency_s[], status[]}`` with optional ``route``, ``period`` and
``cause``, each one value or a list. Nothing is looked at one by one but what is wrong: a rejected observation has an
index, a code
and a sentence, and the others count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from apps.kernel.errors import InvalidInput
from apps.kernel.stats.buckets import ZERO_THRESHOLD, bucket_index
from apps.telemetry.domain.batch import FUTURE_SECONDS, PAST_SECONDS, ROUTES, SLOT_SECONDS, Rejection, text
from apps.telemetry.domain.cells import FATES, Cell, CellKey, add_up
from apps.telemetry.domain.known import Known, KnownEndpoint
from apps.telemetry.domain.limits import MAX_LATENCY_SECONDS, MAX_SUM_SECONDS
from apps.telemetry.domain.tally import LATE_SECONDS, Tally

MAX_ITEMS = 200_000
MAX_CELLS = 1_000
SHOWN_REJECTIONS = 100
Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_ROUTE_NAMES = tuple(sorted(ROUTES))
_ROUTE_CODES = {name: code for code, name in enumerate(_ROUTE_NAMES)}
_WHY = {
    "bad_time": "ts must be Unix seconds",
    "in_the_future": "ts lies more than five minutes ahead of this clock",
    "too_old": "ts is older than 48 hours",
    "bad_latency": f"latency_s must be a number of seconds from 0 to {MAX_LATENCY_SECONDS:,.0f}",
    "sum_too_large": f"the latencies of this body add up to more than {MAX_SUM_SECONDS:,.0f} s",
    "bad_status": "status must be an HTTP status from 100 to 599",
    "bad_route": f"route must be one of {', '.join(_ROUTE_NAMES)}",
    "bad_period": "period must be a whole number from 0",
    "bad_cause": f"cause must be one of {', '.join(FATES)}, or null",
    "unknown_endpoint": "there is no endpoint of this name",
    "unknown_variant": "the endpoint has no variant of this name",
    "malformed": "an observation must be an object with endpoint, variant, ts, latency_s and status",
}


def _fate_table() -> Numbers:
    """HTTP status -> place in FATES: 408 and 504 are timeouts, 500 the model's, other 4xx the caller's own."""
    table = np.zeros(600, np.int64)
    table[400:500] = FATES.index("client_4xx")
    table[500:] = FATES.index("other_5xx")
    table[500] = FATES.index("model_error")
    table[[408, 504]] = FATES.index("timeout")
    return table


_FATE_OF = _fate_table()


def fate_of(status: int) -> str:
    """What a request that was answered with ``status`` (100 to 599) counts as."""
    return FATES[int(_FATE_OF[status])]


@dataclass(slots=True)
class Parsed:
    """One body, taken apart. ``tally.accepted`` are the items in ``cells``; nothing was dropped yet."""

    cells: dict[CellKey, Cell] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    rejected: list[Rejection] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    newest: float | None = None
    resolution: str = "exact"

    def reject(self, index: int, code: str, detail: str = "") -> None:
        self.tally.rejected += 1
        self.reasons[code] = self.reasons.get(code, 0) + 1
        if len(self.rejected) < SHOWN_REJECTIONS:
            self.rejected.append(Rejection(index, code, detail or _WHY[code]))

    def include(self, other: Parsed, places: Sequence[int] | None = None) -> None:
        """Add a part of the same body; ``places`` are its items' indexes in the whole."""
        add_up(self.cells, other.cells.items())
        self.tally.add(other.tally)
        for code, count in other.reasons.items():
            self.reasons[code] = self.reasons.get(code, 0) + count
        for one in other.rejected[: SHOWN_REJECTIONS - len(self.rejected)]:
            self.rejected.append(one if places is None else Rejection(places[one.index], one.code, one.detail))
        if other.newest is not None:
            self.newest = other.newest if self.newest is None else max(self.newest, other.newest)


def parse_observations(body: Any, known: Known, *, now: float) -> Parsed:
    """Columns, a list of objects, or ``{"observations": [objects]}``. InvalidInput when the whole cannot be used."""
    if isinstance(body, Mapping) and "observations" in body:
        body = body["observations"]
    if isinstance(body, Mapping):
        return parse_columns(body, known, now=now)
    if isinstance(body, list):
        return _parse_objects(body, known, now)
    raise InvalidInput.at("", "invalid", "The body must be an object of columns, or a list of objects.")


def parse_columns(body: Mapping[str, Any], known: Known, *, now: float) -> Parsed:
    """One endpoint and variant; the columns have one length. InvalidInput names the column."""
    endpoint, variant = text(body, "endpoint", 80), text(body, "variant", 63)
    lists = {name: _column(body, name) for name in ("ts", "latency_s", "status")}
    count = len(lists["ts"])
    for name, values in lists.items():
        if len(values) != count:
            raise InvalidInput.at(f"/{name}", "bad_length", f"{name} has {len(values)} entries, ts has {count}.")
    parsed = Parsed(tally=Tally(received=count))
    found, key, reason = known.find(endpoint, variant)
    if reason:
        _reject_all(parsed, count, reason)
        return parsed
    checked = _Checked(parsed, count)
    ts = checked.numbers(lists["ts"], "bad_time", lambda each: each >= 0)
    latency = checked.numbers(
        lists["latency_s"], "bad_latency", lambda each: (each >= 0.0) & (each <= MAX_LATENCY_SECONDS)
    )
    status = checked.numbers(lists["status"], "bad_status", lambda each: (each >= 100) & (each < 600))
    checked.refuse(ts > now + FUTURE_SECONDS, "in_the_future")
    checked.refuse(ts < now - PAST_SECONDS, "too_old")
    fate = _FATE_OF[np.where(checked.good, status, 200).astype(np.int64)]
    fate = _caused(checked, body.get("cause"), fate)
    route = checked.codes(body.get("route", "weighted"), _ROUTE_CODES, "bad_route", "/route")
    slot = np.where(checked.good, ts // SLOT_SECONDS, 0).astype(np.int64)
    period = _periods(checked, body.get("period"), found, slot)
    if latency.sum() > MAX_SUM_SECONDS:
        checked.refuse(np.cumsum(np.where(checked.good, latency, 0.0)) > MAX_SUM_SECONDS, "sum_too_large")
    checked.settle()
    good = checked.good
    if good.any():
        taken = ts[good]
        parsed.newest = float(taken.max())
        parsed.tally.late = int(np.count_nonzero(taken < now - LATE_SECONDS))
        parsed.tally.skewed = int(np.count_nonzero(taken > now))
        labels = (endpoint, key)
        parsed.cells = _bucketed(labels, slot[good], route[good], period[good], fate[good], latency[good])
    parsed.tally.accepted = int(np.count_nonzero(good))
    return parsed


def _column(body: Mapping[str, Any], name: str) -> list[Any]:
    values = body.get(name)
    if not isinstance(values, list):
        raise InvalidInput.at(f"/{name}", "invalid", f"{name} must be a list.")
    if len(values) > MAX_ITEMS:
        raise InvalidInput.at(
            f"/{name}", "too_many", f"{name} holds {len(values)} entries; at most {MAX_ITEMS} at once."
        )
    return values


def _reject_all(parsed: Parsed, count: int, code: str) -> None:
    for index in range(min(count, SHOWN_REJECTIONS)):
        parsed.rejected.append(Rejection(index, code, _WHY[code]))
    parsed.tally.rejected += count
    if count:
        parsed.reasons[code] = parsed.reasons.get(code, 0) + count


class _Checked:
    """Which items are still good; the first fault of an item is the one that it is rejected for."""

    def __init__(self, parsed: Parsed, count: int) -> None:
        self._parsed = parsed
        self._faults: list[tuple[Numbers, str]] = []
        self.count = count
        self.good: Mask = np.ones(count, bool)

    def refuse(self, bad: Mask, code: str) -> None:
        bad = bad & self.good
        if bad.any():
            self._faults.append((np.flatnonzero(bad), code))
            self.good &= ~bad

    def numbers(self, values: list[Any], code: str, allowed: Callable[[Floats], Mask]) -> Floats:
        """float64 of each; what is no number (a text, true, null) is refused and 0."""
        # Asked by type: numpy would read "1.5" and true as numbers without a word.
        if set(map(type, values)) <= {float, int}:
            try:
                array = np.array(values, np.float64)
            except OverflowError:  # an integer beyond 1.8e308
                array = np.array([_number(value) for value in values], np.float64)
        else:
            array = np.array([_number(value) for value in values], np.float64)
        is_allowed = np.isfinite(array)
        is_allowed &= allowed(np.where(is_allowed, array, -1.0))
        self.refuse(~is_allowed, code)
        return np.where(is_allowed, array, 0.0)

    def codes(self, value: Any, table: Mapping[str, int], code: str, pointer: str) -> Numbers:
        """Codes of names: one for all, or a list of the columns' length."""
        if not isinstance(value, list):
            found = table.get(value) if isinstance(value, str) else None
            self.refuse(np.full(self.count, found is None), code)
            return np.full(self.count, found or 0, np.int64)
        self.same_length(value, pointer)
        found_all = [table.get(each, -1) if isinstance(each, str) else -1 for each in value]
        array = np.array(found_all, np.int64)
        self.refuse(array < 0, code)
        return np.maximum(array, 0)

    def same_length(self, values: list[Any], pointer: str) -> None:
        if len(values) != self.count:
            raise InvalidInput.at(
                pointer, "bad_length", f"{pointer[1:]} has {len(values)} entries, ts has {self.count}."
            )

    def settle(self) -> None:
        """Tell the body's record, in the order of the items as far as they are shown."""
        shown: list[tuple[int, str]] = []
        for places, code in self._faults:
            self._parsed.tally.rejected += int(places.size)
            self._parsed.reasons[code] = self._parsed.reasons.get(code, 0) + int(places.size)
            shown += [(int(place), code) for place in places[:SHOWN_REJECTIONS]]
        self._parsed.rejected += [
            Rejection(place, code, _WHY[code]) for place, code in sorted(shown)[:SHOWN_REJECTIONS]
        ]


def _number(value: Any) -> float:
    if type(value) not in (float, int):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("nan")


def _caused(checked: _Checked, cause: Any, fate: Numbers) -> Numbers:
    """Where a cause is given it stands above what the status says."""
    if cause is None:
        return fate
    table = {name: place for place, name in enumerate(FATES)}
    if not isinstance(cause, list):
        return checked.codes(cause, table, "bad_cause", "/cause")
    checked.same_length(cause, "/cause")
    codes = np.array(
        [-1 if each is None else table.get(each, -2) if isinstance(each, str) else -2 for each in cause], np.int64
    )
    checked.refuse(codes == -2, "bad_cause")
    return np.where(codes >= 0, codes, fate)


def _periods(checked: _Checked, value: Any, found: KnownEndpoint | None, slot: Numbers) -> Numbers:
    """Given, or by when the present split was applied."""
    if value is None:
        if found is None or not checked.count:
            return np.zeros(checked.count, np.int64)
        before, after = found.period_at(found.applied_at - 1), found.period
        return np.where(slot * SLOT_SECONDS >= found.applied_at, after, before).astype(np.int64)
    if not isinstance(value, list):
        value = [value] * checked.count
    checked.same_length(value, "/period")
    return checked.numbers(
        value, "bad_period", lambda each: (each >= 0) & (each < 2**31) & (each == np.floor(each))
    ).astype(np.int64)


def _bucketed(
    labels: tuple[str, str], slot: Numbers, route: Numbers, period: Numbers, fate: Numbers, latency: Floats
) -> dict[CellKey, Cell]:
    """1. number the cells; 2. count fates, buckets, sums per cell, each by one bincount over all observations."""
    keys = np.stack([slot, route, period])
    first = keys[:, 0]
    if (keys == first[:, None]).all():
        names, cell = first[:, None], np.zeros(slot.size, np.int64)
    else:
        names, cell = _numbered(keys)
    count = names.shape[1]
    if count > MAX_CELLS:
        raise InvalidInput.at("/ts", "too_spread", f"One body reaches {count} slots; at most {MAX_CELLS} at once.")
    fates = np.bincount(cell * len(FATES) + fate, minlength=count * len(FATES)).reshape(count, len(FATES))
    timed = fate != FATES.index("client_4xx")
    if not timed.all():
        cell, latency = cell[timed], latency[timed]
    low, buckets, zero = _buckets(cell, latency, count)
    nanoseconds = np.rint(latency * 1e9).astype(np.int64)
    # Two halves: bincount adds in float64, which is exact only below 2^53.
    high = np.bincount(cell, nanoseconds >> 31, count)
    rest = np.bincount(cell, nanoseconds & 0x7FFFFFFF, count)
    least, most = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(least, cell, latency)
    np.maximum.at(most, cell, latency)
    cells: dict[CellKey, Cell] = {}
    for place in range(count):
        at, kind, number = (int(each) for each in names[:, place])
        key = CellKey(labels[0], labels[1], _ROUTE_NAMES[kind], number, at * SLOT_SECONDS)
        has_any = np.isfinite(least[place])
        start, row = _trimmed(low, buckets[place])
        cells[key] = Cell(
            fates=fates[place].astype(np.int64), items=int(fates[place].sum()), low=start, buckets=row,
            zero=int(zero[place]), sum_ns=(int(high[place]) << 31) + int(rest[place]),
            minimum=float(least[place]) if has_any else None, maximum=float(most[place]) if has_any else None,
        )  # fmt: skip
    return cells


def _numbered(keys: Numbers) -> tuple[Numbers, Numbers]:
    """Distinct columns of ``keys`` and each item's number among them, without sorting where the ranges are small."""
    least = keys.min(axis=1)
    spans = keys.max(axis=1) - least + 1
    if int(spans[0]) * int(spans[1]) * int(spans[2]) > 1 << 20:
        names, cell = np.unique(keys, axis=1, return_inverse=True)
        return names, cell.reshape(-1)
    moved = keys - least[:, None]
    flat = (moved[0] * spans[1] + moved[1]) * spans[2] + moved[2]
    used = np.flatnonzero(np.bincount(flat))
    number = np.zeros(int(used[-1]) + 1, np.int64)
    number[used] = np.arange(used.size)
    names = np.stack([used // (spans[1] * spans[2]), used // spans[2] % spans[1], used % spans[2]]) + least[:, None]
    return names, number[flat]


def _buckets(cell: Numbers, latency: Floats, count: int) -> tuple[int, Numbers, Numbers]:
    """(lowest bucket, counts as cells x buckets, zeros per cell)."""
    is_positive = latency > ZERO_THRESHOLD
    zero = np.zeros(count, np.int64)
    if not is_positive.all():
        zero = np.bincount(cell[~is_positive], minlength=count).astype(np.int64)
        cell, latency = cell[is_positive], latency[is_positive]
    if not latency.size:
        return 0, np.zeros((count, 0), np.int64), zero
    index = bucket_index(latency)
    low = int(index.min())
    width = int(index.max()) - low + 1
    flat = np.bincount(cell * width + (index - low), minlength=count * width)
    return low, flat.reshape(count, width), zero


def _trimmed(low: int, row: Numbers) -> tuple[int, Numbers]:
    """Without the empty ends: a cell must not carry the width of its neighbours (nor keep their memory alive)."""
    used = np.flatnonzero(row)
    if not used.size:
        return 0, np.zeros(0, np.int64)
    return low + int(used[0]), row[used[0] : used[-1] + 1].astype(np.int64)


def _parse_objects(rows: list[Any], known: Known, now: float) -> Parsed:
    """Group by endpoint and variant, then as columns; a fault keeps its place in the list."""
    if len(rows) > MAX_ITEMS:
        raise InvalidInput.at("", "too_many", f"The list holds {len(rows)} observations; at most {MAX_ITEMS} at once.")
    parsed = Parsed()
    groups: dict[tuple[str, str], list[int]] = {}
    for index, row in enumerate(rows):
        names = (row.get("endpoint"), row.get("variant")) if isinstance(row, Mapping) else (None, None)
        if not all(isinstance(name, str) and 0 < len(name) <= 80 and "\x00" not in name for name in names):
            parsed.tally.received += 1
            parsed.reject(index, "malformed")
        else:
            groups.setdefault(names, []).append(index)  # type: ignore[arg-type]
    if len(groups) > MAX_CELLS:
        raise InvalidInput.at("", "too_spread", f"One list names {len(groups)} variants; at most {MAX_CELLS} at once.")
    for (endpoint, variant), places in groups.items():
        picked = [rows[place] for place in places]
        columns: dict[str, Any] = {"endpoint": endpoint, "variant": variant[:63]}
        for name in ("ts", "latency_s", "status"):
            columns[name] = [row.get(name) for row in picked]
        columns["route"] = [row.get("route", "weighted") for row in picked]
        columns["cause"] = [row.get("cause") for row in picked]
        parsed.include(_with_periods(columns, picked, known, now), places)
    return parsed


def _with_periods(columns: dict[str, Any], picked: list[Mapping[str, Any]], known: Known, now: float) -> Parsed:
    """A period that some rows leave out is filled in, so that one list can carry both."""
    given = [row.get("period") for row in picked]
    if any(each is not None for each in given):
        found, _, _ = known.find(columns["endpoint"], columns["variant"])
        columns["period"] = [
            (found.period_at(_number(ts)) if found else 0) if each is None else each
            for each, ts in zip(given, columns["ts"], strict=True)
        ]
    return parse_columns(columns, known, now=now)
