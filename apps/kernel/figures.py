"""The one chart template. Figures are plain JSON; colours are CSS variables that the page resolves per theme."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

Figure = dict[str, Any]
Marks = Sequence[tuple[float, str]]
Limits = Sequence[tuple[float, str]]
Tones = Mapping[str, tuple[str, str]]

NARROWEST_PX = 190
"""The width between the axes of the narrowest chart: three in a row, or one on a phone."""
LETTER_PX, LABEL_GAP_PX, MARGIN_PX = 6.2, 8, 60
LINE_PX = 13
_COLOURS = {
    "stable": "var(--stable)",
    "candidate": "var(--candidate)",
    "shadow": "var(--shadow-variant)",
    "warm": "var(--shadow-variant)",
}


@dataclass(frozen=True, slots=True)
class Twin:
    """The same numbers as a table: headings and rows of text, newest first."""

    columns: list[str]
    rows: list[list[str]]


def colour(tone: str) -> str:
    """The CSS variable of a variant's tone: a role, or ``other-1`` to ``other-6``."""
    return _COLOURS.get(tone, f"var(--{tone})")


_SHORT_SECONDS: Final = 6 * 3600
_DAYS_SECONDS: Final = 36 * 3600


def stamp(seconds: float) -> str:
    """Unix seconds as Plotly writes dates: UTC without an offset."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def clock_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")


def time_word(since: int, until: int) -> Callable[[float], str]:
    """How a table of this range writes a time, so that the words sort as the times do."""
    return clock_time if until - since <= _SHORT_SECONDS else day_time


def day_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def layout(*, since: int, until: int, y_title: str, tickformat: str = "", suffix: str = "") -> Figure:
    """Transparent, fonts inherited, unified hover, from zero, times in UTC, one range for all charts of a page."""
    is_long = until - since > _DAYS_SECONDS
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
            "tickformat": "%-d %b" if is_long else "%H:%M",
            "tickformatstops": [] if is_long else [{"dtickrange": [None, 59_999], "value": "%H:%M:%S"}],
            "nticks": 5,
            "tickangle": 0,
        }
        | {"title": {"text": "UTC", "font": {"size": 11}, "standoff": 2}}
        | {"hoverformat": "%-d %b %H:%M" if is_long else "%H:%M:%S"},
        "yaxis": axis
        | {"rangemode": "tozero", "nticks": 5, "tickformat": tickformat, "ticksuffix": suffix, "fixedrange": True}
        | {"title": {"text": y_title, "font": {"size": 11}, "standoff": 6}},
        "shapes": [],
        "annotations": [],
    }


def add_marks(figure: Figure, marks: Marks, *, since: int, until: int) -> None:
    """Transitions as thin verticals with their steps' words; what stands too close shares one: "5 % → 50 %"."""
    inside = [mark for mark in sorted(marks) if since <= mark[0] <= until]
    for at, _ in inside:
        line = {"color": "var(--line-strong)", "width": 1}
        x = stamp(at)
        figure["layout"]["shapes"].append(
            {"type": "line", "xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": line}
        )
    per_px = (until - since) / NARROWEST_PX
    for label in _shared_labels([(at, word) for at, word in inside if word], per_px, until):
        figure["layout"]["annotations"].append(
            _text(
                label.word, x=stamp(label.centre), y=1, xref="x", yref="paper", xanchor="center", yanchor="bottom",
                tone="var(--muted)",
            )
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Label:
    """Words over one or several transitions; ``centre`` in Unix seconds, ``half`` their half width in the same."""

    word: str
    centre: float
    half: float


def _shared_labels(marks: Marks, per_px: float, until: float) -> list[_Label]:
    """Labels of which none covers another one or leaves the chart at the right.

    1. every mark is a group; 2. a group's label is as wide as its words and centred over it; 3. neighbours whose labels
    would touch become one group, until none do. ``per_px`` is how many seconds a pixel of the narrowest chart is wide.
    """
    groups = [[mark] for mark in marks]
    while True:
        labels = [_label_of(group, per_px, until) for group in groups]
        pairs = enumerate(pairwise(labels))
        touching = next((n for n, (a, b) in pairs if b.centre - b.half < a.centre + a.half), None)
        if touching is None:
            return labels
        groups[touching : touching + 2] = [groups[touching] + groups[touching + 1]]


def _label_of(group: Marks, per_px: float, until: float) -> _Label:
    first, last = group[0], group[-1]
    word = first[1] if len(group) == 1 or first[1] == last[1] else f"{first[1]} → {last[1]}"
    half = (len(word) * LETTER_PX + LABEL_GAP_PX) * per_px / 2
    return _Label(word, min((first[0] + last[0]) / 2, until + MARGIN_PX * per_px - half), half)


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
            | {"bgcolor": "var(--surface)", "borderpad": 0}
        )
    if top > 0:
        figure["layout"]["yaxis"]["range"] = [0, top * 1.15]


def add_label(figure: Figure, word: str, *, value: float, tone: str) -> None:
    """A series' name in the margin, right of where it ends: over the chart it would cover other lines."""
    figure["layout"]["annotations"].append(
        _text(word, x=1, y=value, xref="paper", yref="y", xanchor="left", yanchor="middle", tone=tone, xshift=6)
    )


def spread_labels(figure: Figure, names: Sequence[str], *, gap_px: int = LINE_PX, height_px: int = 150) -> None:
    """Move end labels apart that would be written over each other (``names`` are their texts); none leaves the top."""
    labels = [item for item in figure["layout"]["annotations"] if item["text"] in names and item["xref"] == "paper"]
    labels.sort(key=lambda label: label["y"])
    top = figure["layout"]["yaxis"].get("range", [0, 1])[1] or 1
    places, last = [], float("-inf")
    for item in labels:
        last = max(item["y"] / top * height_px, last + gap_px)
        places.append(last)
    ceiling = float(height_px)
    for n in range(len(labels) - 1, -1, -1):
        places[n] = min(places[n], ceiling)
        ceiling = places[n] - gap_px
        labels[n]["yshift"] = round(places[n] - labels[n]["y"] / top * height_px)


def _text(
    word: str, *, x: Any, y: float, xref: str, yref: str, xanchor: str, yanchor: str, tone: str, xshift: int = 0
) -> Figure:
    return {
        "text": word, "x": x, "y": y, "xref": xref, "yref": yref, "xanchor": xanchor, "yanchor": yanchor,
        "showarrow": False, "font": {"size": 11, "color": tone}, "xshift": xshift,
    }  # fmt: skip
