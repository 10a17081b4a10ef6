"""Columns and objects of observations: the fast way counts what a plain loop counts, and every fault has its reason."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.kernel.errors import InvalidInput
from apps.kernel.stats.histogram import ExponentialHistogram
from apps.telemetry.domain.cells import CellKey, rescaled
from apps.telemetry.domain.known import Known, KnownEndpoint
from apps.telemetry.domain.observations import Parsed, fate_of, parse_observations

NOW = 1_763_712_345.0
KNOWN = Known(
    {"late-arrival": KnownEndpoint("late-arrival", {"v1-0-0": "v1-0-0", "1.0.0": "v1-0-0"}, 7, NOW - 100)}, NOW
)


def columns(ts: list[Any], latency: list[Any], status: list[Any], **more: Any) -> dict[str, Any]:
    return {"endpoint": "late-arrival", "variant": "v1-0-0", "ts": ts, "latency_s": latency, "status": status, **more}


def add_up(parsed: Parsed) -> bool:
    tally = parsed.tally
    items = sum(cell.items for cell in parsed.cells.values())
    return tally.received == tally.accepted + tally.rejected + tally.dropped and items == tally.accepted


@given(
    st.lists(
        st.tuples(
            st.floats(NOW - 40_000, NOW + 200),
            st.floats(0, 100),
            st.sampled_from([200, 204, 302, 404, 408, 429, 500, 502, 504]),
            st.sampled_from(["weighted", "mirrored"]),
            st.integers(3, 5),
        ),
        min_size=1,
        max_size=60,
    )
)
def test_columns_count_what_a_loop_over_single_observations_counts(
    rows: list[tuple[float, float, int, str, int]],
) -> None:
    ts, latency, status, route, period = (list(column) for column in zip(*rows, strict=True))
    parsed = parse_observations(columns(ts, latency, status, route=route, period=period), KNOWN, now=NOW)
    expected: dict[CellKey, list[tuple[float, str]]] = {}
    for at, seconds, code, kind, number in rows:
        key = CellKey("late-arrival", "v1-0-0", kind, number, int(at // 10) * 10)
        expected.setdefault(key, []).append((seconds, fate_of(code)))
    assert set(parsed.cells) == set(expected)
    assert add_up(parsed)
    for key, found in expected.items():
        delta = parsed.cells[key].delta(key)
        fates = Counter(fate for _, fate in found)
        assert {name: getattr(delta, name) for name in fates} == dict(fates)
        assert delta.total == len(found)
        assert delta.latency == ExponentialHistogram.from_values([s for s, fate in found if fate != "client_4xx"])


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("ts", NOW + 301, "in_the_future"),
        ("ts", NOW - 48 * 3600 - 20, "too_old"),
        ("ts", "1763712345", "bad_time"),
        ("ts", None, "bad_time"),
        ("ts", math.nan, "bad_time"),
        ("latency_s", -0.001, "bad_latency"),
        ("latency_s", math.nan, "bad_latency"),
        ("latency_s", math.inf, "bad_latency"),
        ("latency_s", 1e300, "bad_latency"),
        ("latency_s", 10**400, "bad_latency"),
        ("latency_s", True, "bad_latency"),
        ("latency_s", "0.1", "bad_latency"),
        ("status", 99, "bad_status"),
        ("status", 600, "bad_status"),
        ("status", None, "bad_status"),
        ("route", "teleported", "bad_route"),
        ("route", 3, "bad_route"),
        ("period", -1, "bad_period"),
        ("period", 1.5, "bad_period"),
        ("cause", "bad luck", "bad_cause"),
    ],
)
def test_one_bad_observation_is_rejected_with_its_reason_and_the_others_count(name: str, value: Any, code: str) -> None:
    body = columns([NOW - 1] * 3, [0.1] * 3, [200] * 3, route=["weighted"] * 3, period=[1] * 3, cause=[None] * 3)
    body[name] = [*body[name][:1], value, *body[name][2:]]
    parsed = parse_observations(body, KNOWN, now=NOW)
    assert (parsed.tally.received, parsed.tally.accepted, parsed.tally.rejected) == (3, 2, 1)
    assert parsed.reasons == {code: 1}
    assert [(one.index, one.code) for one in parsed.rejected] == [(1, code)]
    assert add_up(parsed)
    rows = [
        {key: column[place] if isinstance(column, list) else column for key, column in body.items()}
        for place in range(3)
    ]
    as_objects = parse_observations(rows, KNOWN, now=NOW)
    assert (as_objects.tally.accepted, [(one.index, one.code) for one in as_objects.rejected]) == (2, [(1, code)])


def test_five_minutes_of_skew_are_tolerated_and_measured() -> None:
    parsed = parse_observations(columns([NOW + 299, NOW - 90, NOW], [0.1] * 3, [200] * 3), KNOWN, now=NOW)
    assert (parsed.tally.accepted, parsed.tally.skewed, parsed.tally.late) == (3, 1, 1)
    assert parsed.newest == NOW + 299


def test_an_unknown_variant_is_rejected_whole_and_a_version_is_known_by_its_number() -> None:
    body = columns([NOW] * 2, [0.1] * 2, [200] * 2)
    unknown = parse_observations({**body, "variant": "v9"}, KNOWN, now=NOW)
    assert (unknown.tally.rejected, unknown.reasons, unknown.cells) == (2, {"unknown_variant": 2}, {})
    elsewhere = parse_observations({**body, "endpoint": "nowhere"}, KNOWN, now=NOW)
    assert elsewhere.reasons == {"unknown_endpoint": 2}
    by_version = parse_observations({**body, "variant": "1.0.0"}, KNOWN, now=NOW)
    assert {key.variant for key in by_version.cells} == {"v1-0-0"}


def test_before_the_names_were_read_nothing_can_be_called_unknown() -> None:
    parsed = parse_observations(columns([NOW], [0.1], [200]), Known(), now=NOW)
    assert parsed.tally.accepted == 1


def test_without_a_period_a_slot_counts_as_before_or_after_the_last_change_of_the_split() -> None:
    parsed = parse_observations(columns([NOW - 200, NOW], [0.1] * 2, [200] * 2), KNOWN, now=NOW)
    assert sorted(key.period for key in parsed.cells) == [6, 7]


def test_a_cause_stands_above_the_status() -> None:
    body = columns([NOW] * 3, [0.1] * 3, [200, 500, 503], cause=["timeout", None, "model_error"])
    (cell,) = parse_observations(body, KNOWN, now=NOW).cells.values()
    assert cell.fates.tolist() == [0, 0, 2, 1, 0]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (3, ""),
        ({}, "/endpoint"),
        (columns([1], [1], [1]) | {"variant": ""}, "/variant"),
        (columns([1], [1], [1]) | {"ts": 5}, "/ts"),
        (columns([NOW], [1, 2], [200]), "/latency_s"),
        (columns([NOW], [1], []), "/status"),
        (columns([NOW], [1], [200], route=[]), "/route"),
        (columns([NOW - 10 * place for place in range(1001)], [0.1] * 1001, [200] * 1001), "/ts"),
    ],
)
def test_a_body_that_cannot_be_used_names_the_column(body: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_observations(body, KNOWN, now=NOW)
    assert caught.value.fields[0].pointer == field


def test_a_list_says_which_of_its_objects_are_none() -> None:
    good = {"endpoint": "late-arrival", "variant": "v1-0-0", "ts": NOW, "latency_s": 0.2, "status": 200}
    parsed = parse_observations([good, 5, {"endpoint": "late-arrival"}, good], KNOWN, now=NOW)
    assert (parsed.tally.received, parsed.tally.accepted) == (4, 2)
    assert [(one.index, one.code) for one in parsed.rejected] == [(1, "malformed"), (2, "malformed")]


def test_a_sum_of_many_long_latencies_is_exact() -> None:
    latency = np.full(50_000, 12_345.678901234).tolist()
    (cell,) = parse_observations(columns([NOW] * 50_000, latency, [200] * 50_000), KNOWN, now=NOW).cells.values()
    assert cell.sum_ns == 50_000 * round(12_345.678901234 * 1e9)


@given(st.dictionaries(st.integers(-3000, 3000), st.integers(1, 50), min_size=1, max_size=30), st.integers(6, 9))
def test_a_finer_schema_is_halved_exactly(buckets: dict[int, int], schema: int) -> None:
    found = rescaled(buckets, schema)
    for index, count in buckets.items():
        assert found[math.ceil(index / 2 ** (schema - 6))] >= count
    assert sum(found.values()) == sum(buckets.values())


def test_a_coarser_schema_is_shared_out_inside_its_own_bounds() -> None:
    found = rescaled({-3: 10}, 3)  # (2^(-4/8), 2^(-3/8)] is eight buckets of schema 6
    assert sorted(found) == list(range(-31, -23))
    assert sum(found.values()) == 10
    assert max(found.values()) - min(found.values()) <= 1
