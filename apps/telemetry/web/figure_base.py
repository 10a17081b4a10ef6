"""The one chart template. Figures are plain JSON; colours are CSS variables that the page resolves per theme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Figure = dict[str, Any]
Marks = Sequence[tuple[float, str]]
Limits = Sequence[tuple[float, str]]
Tones = Mapping[str, tuple[str, str]]

_COLOURS = {"stable": "var(--stable)", "candidate": "var(--candidate)", "shadow": "var(--shadow-variant)"}


@dataclass(frozen=True, slots=True)
class Twin:
    """The same numbers as a table: headings and rows of text, newest first."""

    columns: list[str]
    rows: list[list[str]]


def colour(tone: str) -> str:
    """The CSS variable of a variant's tone: a role, or ``other-1`` to ``other-6``."""
    return _COLOURS.get(tone, f"var(--{tone})")


def stamp(seconds: float) -> str:
    """Unix seconds as Plotly writes dates: UTC without an offset."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def clock_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")


def layout(*, since: int, until: int, y_title: str, tickformat: str = "", suffix: str = "") -> Figure:
    """Transparent, fonts inherited, unified hover, from zero, times in UTC, one range for all charts of a page."""
    axis = {"gridcolor": "var(--line)", "linecolor": "var(--line)", "zeroline": False, "tickfont": {"size": 11}}
    return {
        "margin": {"l": 52, "r": 70, "t": 20, "b": 34},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "var(--muted)", "size": 12},
        "hovermode": "x unified",
        "hoverlabel": {"bgcolor": "var(--surface)", "bordercolor": "var(--line)", "font": {"color": "var(--ink)"}},
        "showlegend": False,
        "uirevision": "kept",
        "dragmode": "zoom",
        "xaxis": axis
        | {
            "type": "date",
            "range": [stamp(since), stamp(until)],
            "showgrid": False,
            "tickformat": "%H:%M",
            "nticks": 5,
            "tickangle": 0,
        }
        | {"title": {"text": "UTC", "font": {"size": 11}, "standoff": 2}, "hoverformat": "%H:%M:%S"},
        "yaxis": axis
        | {"rangemode": "tozero", "nticks": 5, "tickformat": tickformat, "ticksuffix": suffix, "fixedrange": True}
        | {"title": {"text": y_title, "font": {"size": 11}, "standoff": 6}},
        "shapes": [],
        "annotations": [],
    }


def add_marks(figure: Figure, marks: Marks, *, since: int, until: int) -> None:
    """Transitions as thin verticals, each with its step's word; a label that would cover its neighbour is left out."""
    last_labelled = float("-inf")
    for at, word in sorted(marks):
        if not since <= at <= until:
            continue
        line = {"color": "var(--line-strong)", "width": 1}
        x = stamp(at)
        figure["layout"]["shapes"].append(
            {"type": "line", "xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": line}
        )
        if word and at - last_labelled >= (until - since) / 7:
            last_labelled = at
            figure["layout"]["annotations"].append(
                _text(word, x=x, y=1, xref="x", yref="paper", xanchor="center", yanchor="bottom", tone="var(--muted)")
            )


def add_limits(figure: Figure, limits: Limits, highest: float) -> None:
    """Limits as dashed lines with their name. One far above the data is left out: it would flatten the lines."""
    top = highest
    for value, word in limits:
        if highest and value > 5 * highest:
            continue
        top = max(top, value)
        figure["layout"]["shapes"].append(
            {
                "type": "line", "xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": value, "y1": value,
                "line": {"color": "var(--bad)", "width": 1.5, "dash": "dash"},
            }
        )  # fmt: skip
        figure["layout"]["annotations"].append(
            _text(word, x=0, y=value, xref="paper", yref="y", xanchor="left", yanchor="bottom", tone="var(--bad)")
        )
    if top > 0:
        figure["layout"]["yaxis"]["range"] = [0, top * 1.15]


def add_label(figure: Figure, word: str, *, at: str, value: float, tone: str) -> None:
    """A series' name at its last point, to the right of it."""
    figure["layout"]["annotations"].append(
        _text(word, x=at, y=value, xref="x", yref="y", xanchor="left", yanchor="middle", tone=tone, xshift=6)
    )


def spread_labels(figure: Figure, names: Sequence[str], *, gap_px: int = 13, height_px: int = 150) -> None:
    """Move end labels apart that would be written over each other (``names`` are their texts)."""
    labels = [item for item in figure["layout"]["annotations"] if item["text"] in names]
    top = figure["layout"]["yaxis"].get("range", [0, 1])[1] or 1
    last = float("-inf")
    for item in sorted(labels, key=lambda label: label["y"]):
        place = item["y"] / top * height_px
        wanted = max(place, last + gap_px)
        item["yshift"] = round(wanted - place)
        last = wanted


def _text(
    word: str, *, x: Any, y: float, xref: str, yref: str, xanchor: str, yanchor: str, tone: str, xshift: int = 0
) -> Figure:
    return {
        "text": word, "x": x, "y": y, "xref": xref, "yref": yref, "xanchor": xanchor, "yanchor": yanchor,
        "showarrow": False, "font": {"size": 11, "color": tone}, "xshift": xshift,
    }  # fmt: skip
