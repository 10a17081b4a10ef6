"""How exporters name things, and the check of a configuration when it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.kernel.errors import InvalidInput
from apps.telemetry.drivers.base import texts


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a family of exporters names things. ``unit`` is what one second is divided by (0.001: milliseconds).

    ``matchers`` choose what is counted at all; a configuration's own stand above them.
    """

    requests: str
    latency: str
    endpoint: str
    variant: str
    route: str = ""
    outcome: str = ""
    status: str = ""
    unit: float = 1.0
    matchers: Mapping[str, str] = field(default_factory=dict)


DIALECTS = {
    "pilothouse": Dialect(
        requests="pilothouse_serving_requests_total", latency="pilothouse_serving_request_seconds",
        endpoint="endpoint", variant="variant", route="route", outcome="outcome",
    ),
    "istio": Dialect(
        requests="istio_requests_total", latency="istio_request_duration_milliseconds",
        endpoint="destination_service_name", variant="destination_version", status="response_code", unit=0.001,
        matchers={"reporter": "destination"},
    ),
}  # fmt: skip


_CUSTOM = ("requests", "latency", "endpoint_label", "variant_label")
_KNOWN = {"url", "dialect", "endpoint", "matchers", "variants", "histograms", "route_label", "status_label",
          "outcome_label", "unit", *_CUSTOM}  # fmt: skip


_CHOICES = {
    "dialect": ("pilothouse", "istio", "custom"), "histograms": ("classic", "native"), "unit": ("s", "ms", "us"),
}  # fmt: skip


def dialect_of(config: Mapping[str, Any]) -> Dialect:
    """The dialect, with what the configuration names otherwise."""
    base = DIALECTS.get(str(config.get("dialect", "pilothouse")), Dialect("", "", "", ""))
    unit = {"s": 1.0, "ms": 0.001, "us": 1e-6}.get(str(config.get("unit", "")), base.unit)

    def label(name: str, default: str) -> str:
        return str(config.get(name) or default)

    return Dialect(
        requests=label("requests", base.requests), latency=label("latency", base.latency),
        endpoint=label("endpoint_label", base.endpoint), variant=label("variant_label", base.variant),
        route=label("route_label", base.route), outcome=label("outcome_label", base.outcome),
        status=label("status_label", base.status), unit=unit, matchers=base.matchers,
    )  # fmt: skip


def prometheus_check(config: Mapping[str, Any]) -> None:
    """Raises InvalidInput naming the field."""
    for name in config:
        if name not in _KNOWN:
            raise InvalidInput.at(f"/config/{name}", "unknown_field", f"{name} is none of {', '.join(sorted(_KNOWN))}.")
    if not str(config.get("url", "")).startswith(("http://", "https://")):
        raise InvalidInput.at("/config/url", "bad_url", "url is the http or https address of Prometheus.")
    for name, words in _CHOICES.items():
        if config.get(name, words[0]) not in words:
            raise InvalidInput.at(f"/config/{name}", f"bad_{name}", f"{name} is one of {', '.join(words)}.")
    for name in _CUSTOM if config.get("dialect") == "custom" else ():
        if not config.get(name):
            raise InvalidInput.at(f"/config/{name}", "required", f"A custom dialect names {name}.")
    _check_names(config)


def _check_names(config: Mapping[str, Any]) -> None:
    for name in ("requests", "latency"):
        if not _is_name(str(config.get(name) or "x"), ":"):
            raise InvalidInput.at(f"/config/{name}", "bad_name", f"{name} is no metric name.")
    labels = [str(config[name]) for name in config if name.endswith("_label") and config[name]]
    for label in [*labels, *texts(config, "matchers")]:
        if not label or not _is_name(label):
            raise InvalidInput.at("/config", "bad_name", f"{label!r} is no label name.")


def _is_name(text: str, extra: str = "") -> bool:
    """Nothing that could end a selector: these stand in a query unquoted."""
    return text.isascii() and not text[0].isdigit() and all(one.isalnum() or one in f"_{extra}" for one in text)
