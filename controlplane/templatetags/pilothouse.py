"""Template tags and filters, built into every template: states, numbers, pictures, charts, fragments."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from django import template
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import resolve, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from apps.kernel.clock import now
from apps.kernel.errors import DomainError
from apps.registry.web.shown import called
from apps.rollouts.web import story
from apps.telemetry.web import charts
from controlplane.problems import problem_of
from controlplane.templatetags import drawing, words

register = template.Library()

register.filter("called", called)
register.filter("latency", words.latency)
register.filter("duration", words.duration)
register.filter("size", words.size)
register.filter("percent", words.percent)
register.simple_tag(drawing.icon, name="icon")
register.simple_tag(drawing.interval, name="interval")
register.simple_tag(drawing.sparkline, name="sparkline")
register.simple_tag(drawing.traffic_bar, name="traffic_bar")

_JSON_ESCAPES = {ord("<"): "\\u003C", ord(">"): "\\u003E", ord("&"): "\\u0026"}


@register.filter
def bp(value: int | None) -> str:
    """Basis points as "25 %"."""
    return words.percent(None if value is None else value / 10_000)


@register.filter
def thousands(value: float | None) -> str:
    return "–" if value is None else words.plain(value, 0)


@register.filter
def rate(value: float) -> str:
    """Requests a second: "32.8", "1,204"."""
    return words.plain(value, 1 if value < 100 else 0)


@register.filter
def significant(value: Any) -> Any:
    """A metric's value with at most four decimals; what is no number stays as it is."""
    return words.plain(value, 4) if isinstance(value, float) else value


@register.filter
def words_of(name: str) -> str:
    """A stored name as words: "blue_green" is "blue-green"."""
    return str(name).replace("_", "-")


register.filter("gate_words", story.gate_words)


@register.filter
def short(digest: str) -> str:
    """The first twelve characters of a digest or id's tail."""
    return digest.removeprefix("sha256:")[:12]


@register.filter
def pretty(value: Any) -> str:
    """JSON (text or value) with indents, for people."""
    try:
        return json.dumps(json.loads(value) if isinstance(value, str) else value, indent=2, ensure_ascii=False)
    except ValueError:
        return str(value)


@register.simple_tag
def status(name: str, word: str = "") -> SafeString:
    """Shape, word and colour of a stored state, or of a level (ok, bad, …) with its own word."""
    level, said = (name, word) if name in words.SHAPES else words.state_of(name)
    return format_html(
        '<span class="status {}"><i aria-hidden="true">{}</i>{}</span>', level, words.SHAPES[level], word or said
    )


@register.simple_tag
def ago(value: datetime | float | None, tail: str = " ago") -> SafeString:
    """A time as "12 s ago" that the page keeps counting, the exact one on hover and in print."""
    at = words.moment(value)
    if at is None:
        return mark_safe('<span class="muted">never</span>')
    return format_html(
        '<time datetime="{}" title="{} UTC" data-ago="{}">{}{}</time>',
        at.isoformat(),
        at.strftime("%Y-%m-%d %H:%M:%S"),
        tail,
        words.age((now() - at).total_seconds()),
        tail,
    )


@register.inclusion_tag("parts/figure.html")
def chart(kind: str, name: str, title: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The chart ``kind`` of telemetry with its table twin. ``data`` holds that chart function's arguments."""
    figure, twin = charts.CHARTS[kind](**data)
    text = json.dumps(figure, separators=(",", ":")).translate(_JSON_ESCAPES)
    return {
        "name": name,
        "title": title,
        "figure": mark_safe(text),  # noqa: S308 - JSON with <, > and & escaped
        "twin": twin,
        "keys": charts.keys_of(data.get("tones", {})),
    }


@register.simple_tag(takes_context=True)
def fragment(context: Any, url_name: str, *args: Any, live: str = "", every: int = 0) -> SafeString:
    """A part of the page that belongs to another room: found by its URL's name, never by an import.

    The first answer is rendered in place by calling the same view, so the page is whole without a script; afterwards
    the page refetches the URL when a frame for one of the ``live`` channels arrives, or ``every`` so many seconds. The
    page's own query string goes along: filters and ranges hold for its parts too.
    """
    url = reverse(url_name, args=args)
    request: HttpRequest = context["request"]
    query = request.GET.urlencode()
    return format_html(
        '<div id="{}" data-fragment data-live="{}" data-every="{}" hx-get="{}{}" hx-trigger="refetch">{}</div>',
        url_name.replace(":", "-") + "-" + "-".join(str(arg) for arg in args),
        live,
        every or "",
        url,
        f"?{query}" if query else "",
        _first(request, url),
    )


def _first(request: HttpRequest, url: str) -> str:
    inner = copy.copy(request)
    inner.__dict__.pop("headers", None)  # a cached property of the outer request
    inner.method, inner.path = "GET", url
    inner.META = {key: value for key, value in request.META.items() if not key.startswith("HTTP_IF_")}
    found = resolve(unquote(url))  # as Django does it with the path of a request
    try:
        response = found.func(inner, *found.args, **found.kwargs)
    except DomainError as error:
        problem = problem_of(error, request_id=getattr(request, "request_id", ""))
        return mark_safe(render_to_string("_problem.html", {"problem": problem}, request=request))  # noqa: S308 - a template's output
    return mark_safe(str(response.content, "utf-8"))  # noqa: S308 - the output of one of our own templates


@register.filter
def sentence_list(items: Sequence[str]) -> str:
    """ "a, b and c"."""
    return ", ".join(items) if len(items) < 2 else f"{', '.join(items[:-1])} and {items[-1]}"
