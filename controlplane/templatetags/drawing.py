"""Small pictures drawn on the server as inline SVG: they need no script and are there on the first GET."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

ICONS: Final = {
    "fleet": "M3 5h14M3 10h14M3 15h14M6 3.5v3M12 8.5v3M9 13.5v3",
    "rollouts": "M3 16h4v-4h4V8h4V4h2",
    "experiments": "M8 3h4M8.5 3v5L4 16a1 1 0 001 1.5h10a1 1 0 001-1.5L11.5 8V3M6.3 12.5h7.4",
    "models": "M10 3l6 3.5v7L10 17l-6-3.5v-7zM10 10l6-3.5M10 10v7M10 10L4 6.5",
    "reviews": "M4 3.5h12v9.5h-7l-3.5 3.5V13H4zM7 8.2l2.2 2.2L13.2 6",
    "audit": "M5 2.5h7l3.5 3.5v11.5h-10.5zM12 2.5V6h3.5M7.5 9.5h5M7.5 12h5M7.5 14.5h3",
    "settings": "M4 3v6M4 13v4M10 3v2M10 9v8M16 3v8M16 15v2M2 11h4M8 7h4M14 13h4",
    "find": "M8.5 3.5a5 5 0 100 10 5 5 0 000-10zM12.5 12.5L17 17",
    "sun": "M10 6.5a3.5 3.5 0 100 7 3.5 3.5 0 000-7zM10 2v2M10 16v2M2 10h2M16 10h2"
    "M4.5 4.5l1.4 1.4M14.1 14.1l1.4 1.4M4.5 15.5l1.4-1.4M14.1 5.9l1.4-1.4",
    "moon": "M15.5 12.2A6.3 6.3 0 017.8 4.5a6.3 6.3 0 107.7 7.7z",
    "alerts": "M5 14V9a5 5 0 0110 0v5l1.5 1.5h-13zM8 17.5h4M10 2v2",
    "system": "M3 4.5h14v9H3zM8 16.5h4M10 13.5v3",
    "wheel": "M10 4.5a5.5 5.5 0 100 11 5.5 5.5 0 000-11zM10 1.5v17M1.5 10h17M4 4l12 12M16 4L4 16",
}


def icon(name: str) -> SafeString:
    """A line icon in the current colour; the word beside it carries the meaning."""
    return format_html(
        '<svg viewBox="0 0 20 20" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="1.5"'
        ' stroke-linecap="round" stroke-linejoin="round"><path d="{}"/></svg>',
        ICONS[name],
    )


def sparkline(values: Sequence[float | None], tone: str, label: str) -> SafeString:
    """A line from zero to the largest value; None is a gap. Empty without two values."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return mark_safe("")
    top = max(known) or 1.0
    width = 84 / (len(values) - 1)
    path, is_open = [], False
    for place, value in enumerate(values):
        if value is not None:
            path.append(f"{'L' if is_open else 'M'}{place * width:.1f} {20 - 18 * value / top:.1f}")
        is_open = value is not None
    return format_html(
        '<svg class="spark role-{}" viewBox="0 0 84 22" role="img" aria-label="{}"><path d="{}"/></svg>',
        tone,
        label,
        " ".join(path),
    )


class Share(Protocol):
    """One variant's traffic; shares are 0..1, ``measured`` is None where nothing was counted."""

    @property
    def tone(self) -> str: ...
    @property
    def wanted(self) -> float: ...
    @property
    def measured(self) -> float | None: ...


def traffic_bar(parts: Sequence[Share], *, tall: bool = False) -> SafeString:
    """Measured shares as fill, wanted shares as outline."""
    height = 26 if tall else 14
    fills, outlines, at_fill, at_outline = [], [], 0.0, 0.0
    for part in parts:
        if part.measured is not None:
            fills.append((part.tone, f"{at_fill:.2f}", f"{part.measured * 100:.2f}", str(height - 2)))
            at_fill += part.measured * 100
        if part.wanted:
            outlines.append((f"{at_outline:.2f}", f"{part.wanted * 100:.2f}", str(height - 2)))
            at_outline += part.wanted * 100
    ground = format_html('<rect class="ground" x="0" y="1" width="100" height="{}"/>', height - 2)
    return format_html(
        '<svg class="bar{}" viewBox="0 0 100 {}" preserveAspectRatio="none" aria-hidden="true">{}{}{}</svg>',
        " tall" if tall else "",
        height,
        ground,
        format_html_join("", '<rect class="measured role-{}" x="{}" y="1" width="{}" height="{}"/>', fills),
        format_html_join("", '<rect class="wanted" x="{}" y="1" width="{}" height="{}"/>', outlines),
    )


def interval(value: float | None, lower: float | None, upper: float | None, limit: float | None) -> SafeString:
    """A point with its interval on a line from zero, the limit dashed across it. Empty without an interval."""
    if value is None or lower is None or upper is None:
        return mark_safe("")
    far = max(min(upper, 4 * (limit or upper)), 1.4 * (limit or 0), value) or 1.0
    place = {name: 100 * min(number, far) / far for name, number in (("v", value), ("l", lower), ("u", upper))}
    bound = (
        ""
        if limit is None
        else format_html('<line class="limit" x1="{0}%" x2="{0}%" y1="1" y2="21"/>', f"{100 * limit / far:.1f}")
    )
    return format_html(
        '<svg class="interval" aria-hidden="true"><line class="track" x1="0" x2="100%" y1="11" y2="11"/>'
        '<line class="range" x1="{}%" x2="{}%" y1="11" y2="11"/>{}'
        '<circle class="point" cx="{}%" cy="11" r="3.5"/></svg>',
        f"{place['l']:.1f}",
        f"{place['u']:.1f}",
        bound,
        f"{place['v']:.1f}",
    )
