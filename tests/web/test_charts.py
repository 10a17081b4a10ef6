"""Charts as pure functions: what Plotly accepts, gaps that stay gaps, limits and marks that are drawn, a true twin."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go
import pytest

from apps.kernel.figures import NARROWEST_PX
from apps.kernel.stats.histogram import ExponentialHistogram
from apps.telemetry.domain.window import Window
from apps.telemetry.selectors import Point
from apps.telemetry.web.charts import CHARTS, error_chart, keys_of, latency_chart, rate_chart, split_chart

SINCE, UNTIL, STEP = 1_763_712_000, 1_763_712_300, 10
TONES = {"v1-1-0": ("1.1.0", "candidate"), "v1-0-0": ("1.0.0", "stable")}


def point(at: int, seconds: float, total: int = 100, bad: int = 0) -> Point:
    latency = ExponentialHistogram.from_values([seconds] * total)
    return Point(at, Window(total=total, good=total - bad, model_error=bad, latency=latency))


POINTS = {
    "v1-0-0": [point(SINCE + 10 * i, 0.02) for i in range(30)],
    "v1-1-0": [point(SINCE + 10 * i, 0.6, total=25, bad=1) for i in range(15, 30) if i != 20],
}
SHARED: dict[str, Any] = {"points": POINTS, "tones": TONES, "since": SINCE, "until": UNTIL, "step": STEP}


def clock(place: int) -> str:
    return datetime.fromtimestamp(SINCE + 10 * place, UTC).strftime("%H:%M:%S")


def traces(figure: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [trace for trace in figure["data"] if trace.get("name") == name]


@pytest.mark.parametrize("kind", CHARTS)
def test_plotly_accepts_every_figure_with_the_colours_filled_in(kind: str) -> None:
    figure, _ = CHARTS[kind](**SHARED, marks=[(SINCE + 150, "25 %")])
    text = re.sub(r"var\(--[\w-]+\)", "#123456", json.dumps(figure))
    go.Figure(json.loads(text)).to_plotly_json()


def test_a_bucket_without_requests_is_a_gap_not_a_zero() -> None:
    figure, _ = latency_chart(**SHARED)
    (p95,) = traces(figure, "1.1.0 p95")
    at = {x.split(" ")[1]: y for x, y in zip(p95["x"], p95["y"], strict=True)}
    assert at[clock(20)] is None
    assert clock(14) not in at, "before its first request there is nothing to draw"
    assert at[clock(15)] == pytest.approx(600, rel=0.011)
    assert p95["connectgaps"] is False


def test_p95_is_strong_and_its_neighbours_are_thin() -> None:
    figure, _ = latency_chart(**SHARED)
    widths = {name: traces(figure, f"1.0.0 {name}")[0]["line"]["width"] for name in ("p50", "p95", "p99")}
    assert widths["p95"] > 2 * widths["p50"] == 2 * widths["p99"]


def test_a_limit_is_a_dashed_line_with_its_name_and_fits_the_axis() -> None:
    figure, _ = latency_chart(**SHARED, limits=[(0.5, "limit 500 ms")])
    (line,) = [shape for shape in figure["layout"]["shapes"] if shape["line"].get("dash") == "dash"]
    assert (line["y0"], line["y1"]) == (500, 500)
    assert "limit 500 ms" in [item["text"] for item in figure["layout"]["annotations"]]
    assert figure["layout"]["yaxis"]["range"][0] == 0
    assert figure["layout"]["yaxis"]["range"][1] > 600


def test_a_limit_far_above_the_data_does_not_flatten_it() -> None:
    calm = {**SHARED, "points": {"v1-0-0": POINTS["v1-0-0"]}}
    figure, _ = latency_chart(**calm, limits=[(5.0, "limit 5 s")])
    assert figure["layout"]["yaxis"]["range"][1] < 100


def test_transitions_are_verticals_and_those_outside_the_range_are_not_drawn() -> None:
    figure, _ = error_chart(**SHARED, marks=[(SINCE - 100, "5 %"), (SINCE + 150, "25 %")])
    verticals = [shape for shape in figure["layout"]["shapes"] if shape["yref"] == "paper"]
    assert len(verticals) == 1
    assert "25 %" in [item["text"] for item in figure["layout"]["annotations"]]


def top_labels(figure: dict[str, Any]) -> list[tuple[float, float, str]]:
    """(left, right, words) of the transitions' labels, in pixels of the narrowest chart."""
    found = []
    for item in figure["layout"]["annotations"]:
        if item["yref"] == "paper":
            centre = datetime.strptime(f"{item['x']}+0000", "%Y-%m-%d %H:%M:%S%z").timestamp()
            at, half = (centre - SINCE) / (UNTIL - SINCE) * NARROWEST_PX, 3 * len(item["text"])
            assert item["xanchor"] == "center", "over its marks, however wide the chart is"
            found.append((at - half, at + half, item["text"]))
    return sorted(found)


@pytest.mark.parametrize("apart", [1, 5, 12, 30, 60, 90])
def test_labels_of_transitions_never_cover_each_other_and_none_is_lost(apart: int) -> None:
    words = ["5 %", "25 %", "50 %", "100 %", "promote", "5 %", "back"]
    marks = [(SINCE + 5 + apart * n, word) for n, word in enumerate(words) if 5 + apart * n <= 300]
    figure, _ = error_chart(**SHARED, marks=marks)
    labels = top_labels(figure)
    assert labels[0][2].startswith("5 %")
    assert labels[-1][2].endswith(marks[-1][1])
    for (_, right, _), (left, _, _) in pairwise(labels):
        assert left >= right
    assert len([shape for shape in figure["layout"]["shapes"] if shape["yref"] == "paper"]) == len(marks)


def test_a_version_that_has_left_is_not_labelled_in_the_middle_of_the_chart() -> None:
    gone = {**POINTS, "v1-0-0": POINTS["v1-0-0"][:20]}
    figure, _ = latency_chart(**{**SHARED, "points": gone})
    (label,) = [item for item in figure["layout"]["annotations"] if item["text"].endswith("p95")]
    assert (label["text"], label["xref"], label["x"]) == ("1.1.0 p95", "paper", 1)


def test_names_at_the_end_stand_a_line_apart_and_inside_the_chart() -> None:
    tones = {f"v1-{n}-0": (f"1.{n}.0", "stable") for n in range(6)}
    points = {key: [point(SINCE + 10 * i, 0.02) for i in range(30)] for key in tones}
    figure, _ = latency_chart(**{**SHARED, "points": points, "tones": tones})
    top = figure["layout"]["yaxis"]["range"][1]
    places = sorted(item["y"] / top * 150 + item["yshift"] for item in figure["layout"]["annotations"])
    assert all(after - before >= 12 for before, after in pairwise(places))
    assert places[-1] < 151


@pytest.mark.parametrize("per_point", [1, 300, 4_000])
def test_the_names_beside_the_requests_stand_inside_the_chart_whatever_the_rate(per_point: int) -> None:
    tones = {f"v1-{n}-0": (f"1.{n}.0", "stable") for n in range(2)}
    points = {key: [point(SINCE + 10 * i, 0.02, total=per_point) for i in range(30)] for key in tones}
    figure, _ = rate_chart(**{**SHARED, "points": points, "tones": tones})
    top = figure["layout"]["yaxis"]["range"][1]
    assert top >= per_point / 10
    places = [item["y"] / top * 150 + item["yshift"] for item in figure["layout"]["annotations"]]
    assert len(places) == 2
    assert all(0 <= place < 151 for place in places)


def test_percentiles_are_read_in_their_order_and_each_line_answers_for_its_own_step() -> None:
    figure, _ = latency_chart(**SHARED)
    read = sorted((trace for trace in figure["data"] if "hovertemplate" in trace), key=lambda one: one["legendrank"])
    versions = list(dict.fromkeys(trace["name"].split()[0] for trace in read))
    wanted = [f"{version} {which}" for version in versions for which in ("p50", "p95", "p99")]
    assert [trace["name"] for trace in read] == wanted
    charts = (latency_chart(**SHARED), error_chart(**SHARED), rate_chart(**SHARED))
    lines = [trace for drawn, _ in charts for trace in drawn["data"] if "hovertemplate" in trace]
    assert len(lines) == 3 * 2 + 2 + 2
    assert all(9_900 < trace["xperiod"] < 10_000 for trace in lines), "a step of 10 s, and none of the next"


def test_the_error_rate_is_the_share_of_judged_requests() -> None:
    figure, twin = error_chart(**SHARED)
    (trace,) = traces(figure, "1.1.0")
    assert trace["y"][0] == pytest.approx(0.04)
    assert ["1.1.0", "25", "1", "4.00%"] in [row[1:] for row in twin.rows]


def test_measured_shares_sum_to_one_where_anything_was_measured() -> None:
    figure, _ = split_chart(**SHARED, wanted=[(float(SINCE), 0.0), (SINCE + 150.0, 0.2)])
    candidate, stable = traces(figure, "1.1.0")[0], traces(figure, "1.0.0")[0]
    shares = dict(zip(candidate["x"], candidate["y"], strict=True))
    pairs = [(share, shares.get(at, 0.0)) for at, share in zip(stable["x"], stable["y"], strict=True)]
    assert len(pairs) == 30
    assert all(sum(pair) == pytest.approx(1) for pair in pairs)
    assert candidate["y"][5] == 0, "nothing was measured of it while it ran"
    assert candidate["x"][0].endswith(clock(15)), "before its first request it has no share"
    (outline,) = traces(figure, "wanted")
    assert outline["y"] == [0.0, 0.2, 0.2]
    assert outline["line"]["shape"] == "hv"


@pytest.mark.parametrize("kind", CHARTS)
def test_nothing_measured_is_an_empty_twin_not_a_fault(kind: str) -> None:
    _, twin = CHARTS[kind](**{**SHARED, "points": {}})
    assert twin.rows == []


def test_the_twin_is_newest_first() -> None:
    _, twin = latency_chart(**SHARED)
    times = [row[0] for row in twin.rows]
    assert times == sorted(times, reverse=True)


def test_who_shares_a_colour_is_dashed_in_the_chart_and_above_it() -> None:
    tones = {"v1-0-0": ("1.0.0", "other-1"), "v1-1-0": ("1.1.0", "other-1"), "v2-0-0": ("2.0.0", "other-2")}
    points = {**POINTS, "v2-0-0": POINTS["v1-0-0"]}
    figure, _ = latency_chart(**{**SHARED, "tones": tones, "points": points})
    dashes = [traces(figure, f"{version} p95")[0]["line"]["dash"] for version in ("1.0.0", "1.1.0", "2.0.0")]
    assert dashes[0] == dashes[2] == "solid" != dashes[1]
    split, _ = split_chart(**{**SHARED, "tones": tones, "points": points})
    assert [bool(trace["marker"]["pattern"]["shape"]) for trace in split["data"]] == [False, True, False]
    assert keys_of(tones) == [("1.0.0", "other-1"), ("1.1.0", "other-1 again"), ("2.0.0", "other-2")]
