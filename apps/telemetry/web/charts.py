"""Rows to figures: pure functions from series of windows to Plotly JSON and a table of the same numbers.

Every function takes ``points`` (variant -> its series), ``tones`` (variant -> (label, tone)), ``marks`` (transitions as
(Unix seconds, word)), the range ``since``/``until`` in Unix seconds and ``step`` seconds per point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from apps.kernel.figures import (
    Figure,
    Limits,
    Marks,
    Tones,
    Twin,
    add_label,
    add_limits,
    add_marks,
    colour,
    layout,
    spread_labels,
    stamp,
    time_word,
)
from apps.telemetry.selectors import Point

Points = Mapping[str, Sequence[Point]]
_QUANTILES: Final = ((0.5, "p50", 1.0, 0.65), (0.99, "p99", 1.0, 0.65), (0.95, "p95", 2.4, 1.0))
_READ: Final = ("p50", "p95", "p99")
"""In this order under the pointer; drawn last is what lies on top."""
_RANK: Final = 1000
_TWIN_ROWS: Final = 120
_DASHES: Final = ("solid", "5px,2px", "2px,2px")
"""By how many wear the colour before."""


def latency_chart(
    *, points: Points, tones: Tones, since: int, until: int, step: int, marks: Marks = (), limits: Limits = ()
) -> tuple[Figure, Twin]:
    """p50, p95 and p99 in milliseconds, p95 strong with its bucket bounds as a pale band. Gaps stay gaps."""
    figure = _empty(since, until, step, "latency, ms")
    xs = _grid(since, until, step)
    rows: list[list[str]] = []
    word = time_word(since, until)
    names, highest, again = [], 0.0, again_of(tones)
    for variant, (label, tone) in tones.items():
        by_time = _by_time(points.get(variant, ()))
        quantiles = {at: _quantiles_ms(point) for at, point in by_time.items()}
        shade = colour(tone)
        figure["data"] += _band(xs, quantiles, shade)
        for place, (_, which, width, opacity) in enumerate(_QUANTILES):
            values = [found[place][0] if (found := quantiles.get(at)) else None for at in xs]
            name = f"{label} {which}"
            line = _line(xs, values, name, shade, width, opacity, "%{y:,.0f} ms", again[variant])
            figure["data"].append(
                line | _window(step) | {"legendrank": _RANK + len(figure["data"]) // 4 * 4 + _READ.index(which)}
            )
            highest = max([highest, *(value for value in values if value is not None)])
        end = _end(xs, {at: found[2][0] for at, found in quantiles.items() if found})
        if end is not None:
            names.append(f"{label} p95")
            add_label(figure, names[-1], value=end, tone=shade)
        rows += [
            [
                word(at),
                label,
                f"{by_time[at].window.total:,}",
                *(f"{found[place][0]:,.0f} ms" for place in (0, 2, 1)),
            ]
            for at, found in quantiles.items()
            if found
        ]
    add_limits(figure, [(value * 1000, word) for value, word in limits], highest)
    add_marks(figure, marks, since=since, until=until)
    spread_labels(figure, names)
    return figure, _twin(["UTC", "version", "requests", "p50", "p95", "p99"], rows)


def error_chart(
    *, points: Points, tones: Tones, since: int, until: int, step: int, marks: Marks = (), limits: Limits = ()
) -> tuple[Figure, Twin]:
    """The share of judged requests that failed, per variant and point."""
    figure = _empty(since, until, step, "error rate", ",.1~%")
    xs = _grid(since, until, step)
    rows: list[list[str]] = []
    word = time_word(since, until)
    names, highest, again = [], 0.0, again_of(tones)
    for variant, (label, tone) in tones.items():
        by_time = _by_time(points.get(variant, ()))
        shares = {at: point.window.bad / point.window.judged for at, point in by_time.items() if point.window.judged}
        values = [shares.get(at) for at in xs]
        line = _line(xs, values, label, colour(tone), 2.0, 1.0, "%{y:.2%}", again[variant])
        figure["data"].append(line | _window(step))
        highest = max([highest, *shares.values()])
        end = _end(xs, shares)
        if end is not None:
            names.append(label)
            add_label(figure, label, value=end, tone=colour(tone))
        rows += [
            [word(at), label, f"{by_time[at].window.judged:,}", f"{by_time[at].window.bad:,}", f"{share:.2%}"]
            for at, share in shares.items()
        ]
    add_limits(figure, limits, highest)
    add_marks(figure, marks, since=since, until=until)
    if "range" not in figure["layout"]["yaxis"]:
        figure["layout"]["yaxis"]["range"] = [0, 0.01]
    spread_labels(figure, names)
    return figure, _twin(["UTC", "version", "requests", "errors", "error rate"], rows)


def split_chart(
    *,
    points: Points,
    tones: Tones,
    since: int,
    until: int,
    step: int,
    marks: Marks = (),
    wanted: Sequence[tuple[float, float]] = (),
) -> tuple[Figure, Twin]:
    """Measured shares of weighted requests stacked as fill; ``wanted`` ((Unix seconds, share) steps) as an outline.

    ``tones`` must name the variant of ``wanted`` first: its measured fill then starts at the bottom like the outline.
    """
    figure = _empty(since, until, step, "share of requests", ",.0%")
    xs = _grid(since, until, step)
    totals: dict[int, int] = {}
    for variant in tones:
        for point in points.get(variant, ()):
            totals[point.at] = totals.get(point.at, 0) + point.window.total
    rows: list[list[str]] = []
    word, again = time_word(since, until), again_of(tones)
    for variant, (label, tone) in tones.items():
        counts = {point.at: point.window.total for point in points.get(variant, ())}
        its_time = range(min(counts, default=0), max(counts, default=-1) + 1)
        values = [counts.get(at, 0) / totals[at] if totals.get(at) and at in its_time else None for at in xs]
        figure["data"].append(_bars(xs, values, label, colour(tone), step, again[variant]))
        rows += [
            [word(at), label, f"{counts.get(at, 0):,}", f"{counts.get(at, 0) / total:.1%}"]
            for at, total in totals.items()
            if total
        ]
    if wanted:
        figure["data"].append(_outline(wanted, until))
    figure["layout"] |= {"barmode": "stack", "bargap": 0}
    figure["layout"]["yaxis"]["range"] = [0, 1]
    add_marks(figure, marks, since=since, until=until)
    return figure, _twin(["UTC", "version", "requests", "measured share"], rows)


def rate_chart(
    *, points: Points, tones: Tones, since: int, until: int, step: int, marks: Marks = ()
) -> tuple[Figure, Twin]:
    """Requests per second and variant. The last step is still filling and is left out; a gap is no zero."""
    figure = _empty(since, until, step, "requests per second")
    xs = _grid(since, until, step)
    rows: list[list[str]] = []
    word = time_word(since, until)
    names, highest, again = [], 0.0, again_of(tones)
    for variant, (label, tone) in tones.items():
        rates = {point.at: point.window.total / step for point in points.get(variant, ()) if point.at + step < until}
        values = [rates.get(at) for at in xs]
        highest = max([highest, *rates.values()])
        line = _line(xs, values, label, colour(tone), 2.0, 1.0, "%{y:,.4~r}/s", again[variant])
        figure["data"].append(line | _window(step))
        end = _end(xs, rates)
        if end is not None:
            names.append(label)
            add_label(figure, label, value=end, tone=colour(tone))
        rows += [[word(at), label, f"{rate * step:,.0f}", f"{rate:,.2f}"] for at, rate in rates.items()]
    add_limits(figure, (), highest)  # the labels beside it are placed by the axis
    add_marks(figure, marks, since=since, until=until)
    spread_labels(figure, names)
    return figure, _twin(["UTC", "version", "requests", "per second"], rows)


CHARTS: Final[Mapping[str, Callable[..., tuple[Figure, Twin]]]] = {
    "latency": latency_chart,
    "errors": error_chart,
    "split": split_chart,
    "rate": rate_chart,
}


def _empty(since: int, until: int, step: int, y_title: str, tickformat: str = "") -> Figure:
    """``meta.step``: who points between two points must not be shown one of another time (figure.js)."""
    return {
        "data": [],
        "layout": layout(since=since, until=until, y_title=y_title, tickformat=tickformat) | {"meta": {"step": step}},
    }


def _grid(since: int, until: int, step: int) -> list[int]:
    return list(range(since // step * step, until, step))


def _end(xs: Sequence[int], values: Mapping[int, float]) -> float | None:
    """The last value, when the series goes on to the end of the range (but for what is still to arrive); one that
    ended before has its name above the chart only."""
    last = max(values, default=None)
    if last is None or not xs or last < xs[0] + 0.9 * (xs[-1] - xs[0]):
        return None
    return values[last]


def _by_time(points: Sequence[Point]) -> dict[int, Point]:
    return {point.at: point for point in points}


def _quantiles_ms(point: Point) -> list[tuple[float, float, float]] | None:
    """(value, lower, upper) in milliseconds for each of _QUANTILES; None when nothing was timed."""
    found = [point.window.latency.quantile(q) for q, *_ in _QUANTILES]
    return [(item.value * 1000, item.lower * 1000, item.upper * 1000) for item in found if item is not None] or None


def again_of(tones: Tones) -> dict[str, int]:
    """Variant -> how many before it wear its colour already: there are fewer colours than versions of a month."""
    worn: dict[str, int] = {}
    found = {}
    for variant, (_, tone) in tones.items():
        found[variant] = worn.get(tone, 0)
        worn[tone] = found[variant] + 1
    return found


def keys_of(tones: Tones) -> list[tuple[str, str]]:
    """(label, what its swatch wears) above a chart: who shares a colour is dashed there as in the chart."""
    again = again_of(tones)
    return [(label, f"{tone} again" if again[variant] else tone) for variant, (label, tone) in tones.items()]


def _trimmed(xs: Sequence[int], ys: Sequence[float | None]) -> tuple[Sequence[int], Sequence[float | None]]:
    """From the first value to the last: of ten versions of a month each has a few days. Gaps inside stay gaps."""
    places = [place for place, value in enumerate(ys) if value is not None]
    if not places:
        return xs[:0], ys[:0]
    return xs[places[0] : places[-1] + 1], ys[places[0] : places[-1] + 1]


def _line(
    xs: Sequence[int],
    ys: Sequence[float | None],
    name: str,
    shade: str,
    width: float,
    opacity: float,
    hover: str,
    again: int = 0,
) -> dict[str, Any]:
    xs, ys = _trimmed(xs, ys)
    is_short = sum(value is not None for value in ys) < 3  # a single point makes no line
    mode = "lines+markers" if is_short else "lines"
    return {
        "type": "scatter", "mode": mode, "name": name, "x": [stamp(at) for at in xs], "y": list(ys),
        "line": {"color": shade, "width": width, "dash": _DASHES[again % len(_DASHES)]}, "opacity": opacity,
        "connectgaps": False,
        "hovertemplate": hover, "cliponaxis": False,
    }  # fmt: skip


def _window(step: int) -> dict[str, Any]:
    """A point answers the pointer for its own step alone: where points lie closer than the pointer is exact, a version
    that has left would be shown beside those of the next moment. A little less than the step, so that none has two."""
    return {"xperiod": 0.999 * step * 1000, "xperiodalignment": "start"}


_NOTHING: Final[list[tuple[float | None, ...]]] = [(None, None, None)] * 3


def _band(
    xs: Sequence[int], quantiles: Mapping[int, list[tuple[float, float, float]] | None], shade: str
) -> list[dict[str, Any]]:
    """The bucket bounds of p95: the histogram knows no more than that the value lies between them."""
    # One closed shape per stretch without a gap: filling between two lines would paint a wedge across the gap.
    shape_x: list[str | None] = []
    shape_y: list[float | None] = []
    for is_timed, stretch in groupby(xs, key=lambda at: quantiles.get(at) is not None):
        if not is_timed:
            continue
        found = [(stamp(at), (quantiles.get(at) or _NOTHING)[2]) for at in stretch]
        shape_x += [*(at for at, _ in found), *(at for at, _ in reversed(found)), None]
        shape_y += [*(bound[1] for _, bound in found), *(bound[2] for _, bound in reversed(found)), None]
    return [
        {
            "type": "scatter", "mode": "lines", "x": shape_x, "y": shape_y, "hoverinfo": "skip", "opacity": 0.25,
            "line": {"width": 0, "color": shade}, "fill": "toself", "fillcolor": shade,
        }
    ]  # fmt: skip


def _bars(
    xs: Sequence[int], ys: Sequence[float | None], name: str, shade: str, step: int, again: int = 0
) -> dict[str, Any]:
    xs, ys = _trimmed(xs, ys)
    pattern = {"shape": "/", "size": 5, "solidity": 0.35, "fillmode": "overlay"} if again else {"shape": ""}
    return {
        "type": "bar", "name": name, "x": [stamp(at) for at in xs], "y": list(ys), "width": step * 1000,
        "offset": 0, "hovertemplate": "%{y:.1%}",
        "marker": {"color": shade, "opacity": 0.75, "line": {"width": 0}, "pattern": pattern},
    }  # fmt: skip


def _outline(wanted: Sequence[tuple[float, float]], until: int) -> dict[str, Any]:
    steps = [*wanted, (float(until), wanted[-1][1])]
    return {
        "type": "scatter", "mode": "lines", "name": "wanted", "x": [stamp(at) for at, _ in steps],
        "y": [share for _, share in steps], "line": {"color": "var(--ink)", "width": 1.5, "shape": "hv"},
        "hovertemplate": "%{y:.0%}",
    }  # fmt: skip


def _twin(columns: list[str], rows: list[list[str]]) -> Twin:
    return Twin(columns, sorted(rows, key=lambda row: row[0], reverse=True)[:_TWIN_ROWS])
