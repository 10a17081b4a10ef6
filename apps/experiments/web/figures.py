"""The figures of experiments: power over units, the estimate over time, the statistic against its boundary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.utils.safestring import SafeString, mark_safe

from apps.experiments.web.said import difference_said
from apps.kernel.figures import Figure, Twin, layout, stamp

LABEL_PX = 16
"""From one label to the next: eleven pixels of text, and the room that Plotly leaves around it."""
_JSON_ESCAPES = {ord("<"): "\\u003C", ord(">"): "\\u003E", ord("&"): "\\u0026"}


def shown(name: str, title: str, figure: Figure, twin: Twin) -> dict[str, Any]:
    """What parts/figure.html draws."""
    text = json.dumps(figure, separators=(",", ":")).translate(_JSON_ESCAPES)
    safe: SafeString = mark_safe(text)  # noqa: S308 - JSON with <, > and & escaped
    return {"name": name, "title": title, "figure": safe, "twin": twin, "keys": ()}


def power_figure(curve: Mapping[str, Any], *, planned: int, power: float, effects: Sequence[str]) -> dict[str, Any]:
    """Power over units for the planned effect (strong) and its neighbours. ``effects``: the lines' words."""
    figure = _plain(x_title="units over both arms", y_title="power", tickformat=".0%")
    rows: list[list[str]] = []
    totals = curve["total"]
    for line, word in zip(curve["lines"], effects, strict=True):
        is_planned = line["times"] == 1.0
        shade = "var(--accent)" if is_planned else "var(--line-strong)"
        figure["data"].append(
            {
                "type": "scatter", "mode": "lines", "x": totals, "y": line["power"], "name": word,
                "line": {"color": shade, "width": 2.4 if is_planned else 1},
                "hovertemplate": f"{word}: %{{y:.1%}}<extra></extra>",
            }
        )  # fmt: skip
        figure["layout"]["annotations"].append(
            _note(word, totals[-1], line["power"][-1], "var(--accent)" if is_planned else "var(--muted)")
        )
    _spread(figure["layout"]["annotations"], 150, 1.05)
    figure["layout"]["yaxis"] |= {"range": [0, 1.05]}
    figure["layout"]["shapes"] += [_level(power), _upright(planned)]
    rows = [
        [f"{total:,}", *(f"{line['power'][i]:.1%}" for line in curve["lines"])]
        for i, total in enumerate(totals)
        if i % 4 == 0
    ]
    return shown("power", "Power over units", figure, Twin(["units", *effects], rows))


def estimate_figure(looks: Sequence[Any], metric: Mapping[str, Any]) -> dict[str, Any]:
    """The primary metric's difference at every look with the interval that holds at all looks together."""
    times = [look.as_of for look in looks if look.as_of is not None]
    since, until = _span(times)
    scale, suffix = _scale(metric)
    figure: Figure = {"data": [], "layout": layout(since=since, until=until, y_title=f"treatment − control{suffix}")}
    figure["layout"]["yaxis"] |= {"rangemode": "normal", "zeroline": True, "zerolinecolor": "var(--line-strong)"}
    figure["layout"]["xaxis"] |= {"tickformat": "%d %b %H:%M", "nticks": 3}  # long labels: more overlap on a phone
    points = [point for look in looks if (point := _point(look, scale)) is not None]
    xs = [stamp(at.timestamp()) for at, _, _, _ in points]
    closed = [
        (x, low, high) for x, (_, _, low, high) in zip(xs, points, strict=True) if low is not None and high is not None
    ]
    figure["data"] += [
        {
            "type": "scatter", "mode": "lines", "x": [x for x, _, _ in closed] + [x for x, _, _ in reversed(closed)],
            "y": [high for _, _, high in closed] + [low for _, low, _ in reversed(closed)], "fill": "toself",
            "fillcolor": "var(--accent-pale)", "line": {"width": 0}, "hoverinfo": "skip",
        },
        {
            "type": "scatter", "mode": "lines+markers", "x": xs, "y": [value for _, value, _, _ in points],
            "line": {"color": "var(--accent)", "width": 2}, "marker": {"size": 6}, "name": "difference",
            "hovertemplate": "%{y:.4g}<extra></extra>",
        },
    ]  # fmt: skip
    rows = [
        [
            f"{at:%Y-%m-%d %H:%M}", difference_said(metric, value / scale),
            difference_said(metric, None if low is None else low / scale),
            difference_said(metric, None if high is None else high / scale),
        ]
        for at, value, low, high in reversed(points)
    ]  # fmt: skip
    return shown("estimate", "Difference at every look, interval valid at all of them", figure,
                 Twin(["UTC", "difference", "at least", "at most"], rows))  # fmt: skip


def boundary_figure(looks: Sequence[Any]) -> dict[str, Any] | None:
    """The statistic over information against the boundary; None where the mode has no boundary."""
    rows, xs, zs, bounds = [], [], [], []
    for look in looks:
        found, difference = look.result.get("look", {}), look.result["primary"]["difference"]
        if found.get("z") is None or "undefined" in difference:
            continue
        xs.append(found["information"])
        zs.append(difference["statistic"])
        bounds.append(found["z"])
        rows.append([f"{found['information']:.1%}", f"{difference['statistic']:+.3f}", f"±{found['z']:.3f}"])
    if not xs:
        return None
    figure = _plain(x_title="share of the planned units", y_title="z", tickformat="")
    figure["layout"]["xaxis"] |= {"tickformat": ".0%", "range": [0, max(1.05, xs[-1] * 1.05)]}
    highest = min(max(bounds), 8.0) * 1.15
    figure["layout"]["yaxis"] |= {
        "range": [-max(highest, *map(abs, zs)), max(highest, *map(abs, zs))],
        "rangemode": "normal",
    }
    for sign in (1, -1):
        figure["data"].append(
            {"type": "scatter", "mode": "lines+markers", "x": xs, "y": [sign * bound for bound in bounds],
             "line": {"color": "var(--bad)", "width": 1.5, "dash": "dash"}, "marker": {"size": 4}, "hoverinfo": "skip"}
        )  # fmt: skip
    figure["data"].append(
        {"type": "scatter", "mode": "lines+markers", "x": xs, "y": zs, "line": {"color": "var(--accent)", "width": 2},
         "marker": {"size": 6}, "hovertemplate": "z %{y:.3f}<extra></extra>"}
    )  # fmt: skip
    return shown(
        "boundary", "Evidence against the boundary", figure, Twin(["planned units", "z", "boundary"], rows[::-1])
    )


def pace_figure(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Units after each whole day against the plan; None before the second day."""
    pace, planned = result.get("pace") or {}, result["units"]["planned"]
    total = pace.get("total") or []
    if len(total) < 2:
        return None
    days = list(range(1, len(total) + 1))
    figure = _plain(x_title="day", y_title="units over both arms", tickformat=",d")
    figure["layout"]["yaxis"] |= {"range": [0, max(planned, total[-1]) * 1.08]}
    figure["layout"]["shapes"].append(_level(planned))
    figure["layout"]["annotations"].append(_note("plan", days[-1], planned, "var(--muted)"))
    figure["data"].append(
        {"type": "scatter", "mode": "lines+markers", "x": days, "y": total, "marker": {"size": 5},
         "line": {"color": "var(--accent)", "width": 2}, "hovertemplate": "%{y:,.0f} units<extra></extra>"}
    )  # fmt: skip
    rows = [
        [str(day), f"{new:,.0f}", f"{so_far:,.0f}"] for day, new, so_far in zip(days, pace["daily"], total, strict=True)
    ]
    return shown("pace", "Units as they came", figure, Twin(["day", "new", "so far"], rows[::-1]))


def _point(look: Any, scale: float) -> tuple[datetime, float, float | None, float | None] | None:
    difference, band = look.result["primary"]["difference"], look.result["look"]
    if "undefined" in difference or look.as_of is None:
        return None
    low, high = (None if band[name] is None else band[name] * scale for name in ("lower", "upper"))
    return look.as_of, difference["estimate"] * scale, low, high


def _scale(metric: Mapping[str, Any]) -> tuple[float, str]:
    if metric["kind"] == "proportion":
        return 100.0, ", points"
    return (1000.0, ", ms") if metric["kind"] == "quantile" else (1.0, "")


def _span(times: Sequence[datetime]) -> tuple[int, int]:
    first, last = (times[0].timestamp(), times[-1].timestamp()) if times else (0.0, 1.0)
    room = max((last - first) * 0.04, 60.0)
    return int(first - room), int(last + room)


def _plain(*, x_title: str, y_title: str, tickformat: str) -> Figure:
    """The product's layout with a number on the x axis."""
    base = layout(since=0, until=1, y_title=y_title, tickformat=tickformat)
    axis = {name: base["xaxis"][name] for name in ("gridcolor", "linecolor", "zeroline", "tickfont", "showgrid")}
    base["xaxis"] = axis | {"nticks": 5, "title": {"text": x_title, "font": {"size": 11}, "standoff": 2}}
    return {"data": [], "layout": base}


def _note(word: str, x: float, y: float, tone: str) -> Figure:
    return {
        "text": word, "x": x, "y": y, "xref": "x", "yref": "y", "xanchor": "left", "yanchor": "middle",
        "showarrow": False, "font": {"size": 11, "color": tone}, "xshift": 6, "bgcolor": "var(--surface)",
    }  # fmt: skip


def _spread(notes: list[Figure], height: float, top: float) -> None:
    """Labels at the right edge that would be written over each other move apart, downwards from the top."""
    last = float("inf")
    for note in sorted(notes, key=lambda one: -one["y"]):
        place = note["y"] / top * height
        wanted = min(place, last - LABEL_PX)
        note["yshift"], last = round(wanted - place), wanted


def _level(value: float) -> Figure:
    line = {"color": "var(--muted)", "width": 1, "dash": "dash"}
    return {"type": "line", "xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": value, "y1": value, "line": line}


def _upright(value: float) -> Figure:
    line = {"color": "var(--muted)", "width": 1, "dash": "dash"}
    return {"type": "line", "xref": "x", "yref": "paper", "x0": value, "x1": value, "y0": 0, "y1": 1, "line": line}
