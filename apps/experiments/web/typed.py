"""The design form: what a person typed, as a design, and a design back as what would have been typed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from apps.experiments.domain.design import FULL_BP, Design, Metric
from apps.experiments.domain.words import CONTROL, TREATMENT, MetricKind, Mode, Source, Unit
from apps.kernel.errors import DomainError
from apps.kernel.typed import TypedForm

MEASURES: Final = (
    ("share", "Share of units with an outcome", "purchase, correct answer, complaint: at least one per unit"),
    ("mean", "Mean per unit", "revenue or score per unit, 0 for units without any"),
    ("ratio", "Ratio of two outcomes", "clicks per view: the sum of one over the sum of the other"),
    ("errors", "Share of failed requests", "measured by the serving processes; the unit is the request"),
    ("slow", "Share of slow requests", "over a limit in ms, measured; the unit is the request"),
)
UNITS: Final = (
    ("user", "User", "The same user always gets the same version. For outcomes that come later."),
    ("session", "Session", "The same session always gets the same version."),
    ("request", "Request", "The gateway splits by itself, no client work. For latency and errors."),
)
MODES: Final = (
    (
        Mode.GROUP_SEQUENTIAL.value,
        "Planned looks",
        "Look daily at nearly no cost: 4 % more units, ends early if clear.",
    ),
    (Mode.ALWAYS_VALID.value, "Always valid", "Look at any time and extend at will; needs up to 1.9 times the units."),
)
DEFAULTS: Final = {
    "unit": "user", "measure": "share", "share": "50", "coverage": "100", "direction": "higher",
    "effect_kind": "relative",
    "guard_errors": "on", "error_limit": "1", "guard_slow": "on", "slow_ms": "500", "slow_limit": "1",
    "mode": Mode.GROUP_SEQUENTIAL.value, "alpha": "5", "power": "80", "looks": "14", "minimum_days": "14",
    "look_every_hours": "24", "stop_on_harm": "on",
}  # fmt: skip
BOXES: Final = ("guard_errors", "guard_slow", "stop_on_harm")
FIELDS: Final = (
    "name", "endpoint", "version", "hypothesis", "unit", "share", "coverage", "measure", "event", "denominator",
    "limit_ms", "window_hours", "direction", "baseline", "spread", "effect_kind", "effect", "error_limit", "slow_ms",
    "slow_limit",
    "others", "mode", "alpha", "power", "looks", "minimum_days", "planned_total", "units_per_day", "look_every_hours",
    "dimensions", *BOXES,
)  # fmt: skip
SHARES: Final = frozenset({"share", "errors", "slow"})
OTHER_LINE: Final = re.compile(
    r"^(?:(?P<verb>share|mean) of (?P<event>[\w.:-]+)|(?P<top>[\w.:-]+) per (?P<bottom>[\w.:-]+)"
    r"|p(?P<q>\d{2,3}) of latency)$"
)
MAX_OTHERS: Final = 10


class Typed(TypedForm):
    """Numbers are in the form's units (percent)."""

    FAULTY: ClassVar = 0.0

    @classmethod
    def read(cls, query: Mapping[str, str], *, is_fresh: bool = False) -> Typed:
        """From a POST, or from a query string that fills a few fields of a fresh form."""
        values = {name: query.get(name, "").strip()[:4000] for name in FIELDS}
        if is_fresh:
            values = {name: value or DEFAULTS.get(name, "") for name, value in values.items()}
        return cls(values)

    def design(self) -> dict[str, Any]:
        """The design as JSON. What is no number becomes a fault here; what is wrong as a design is told by the service.
        Raises InvalidInput."""
        metrics, guardrails = self._metrics()
        share = self._percent("share", 50.0)
        treatment = round((share or 0.0) * FULL_BP)
        design = {
            "hypothesis": self["hypothesis"],
            "unit": self["unit"] if self["unit"] in {one.value for one in Unit} else "user",
            "weights_bp": {CONTROL: FULL_BP - treatment, TREATMENT: treatment},
            "coverage_bp": round((self._percent("coverage", 100.0) or 0.0) * FULL_BP),
            "metrics": list(metrics.values()),
            "primary": next(iter(metrics)),
            "secondary": [key for key in list(metrics)[1:] if key not in {rail["metric"] for rail in guardrails}],
            "guardrails": guardrails,
            "mode": self["mode"] if self["mode"] in {one.value for one in Mode} else Mode.GROUP_SEQUENTIAL.value,
            "alpha": self._percent("alpha", 5.0),
            "power": self._percent("power", 80.0),
            "planned_total": self.whole("planned_total"),
            "minimum_days": self.whole("minimum_days", 14),
            "looks": self.whole("looks", 14),
            "look_every_hours": self.whole("look_every_hours", 24),
            "dimensions": [part.strip() for part in self["dimensions"].split(",") if part.strip()],
            "stop_on_harm": bool(self["stop_on_harm"]),
            **self._effect(),
        }
        self.refuse_faults()
        return design

    def units_per_day(self) -> float | None:
        return self.number("units_per_day")

    def place(self, error: DomainError) -> None:
        """The service's faults at this form's fields; what belongs to none stands under ""."""
        for item in error.fields:
            self.faults.setdefault(_field_of(item.pointer, self["measure"]), item.detail)
        if not error.fields:
            self.faults.setdefault("", error.detail)

    def _effect(self) -> dict[str, float | None]:
        is_share = self["measure"] in SHARES
        effect = self.number("effect")
        relative = self["effect_kind"] != "absolute"
        if effect is not None and (relative or is_share):
            effect /= 100.0
        return {
            "baseline": self._percent("baseline") if is_share else self.number("baseline"),
            "spread": None if is_share else self.number("spread"),
            "effect_relative": effect if relative else None,
            "effect_absolute": None if relative else effect,
        }

    def _metrics(self) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
        """Metrics by key, the primary one first, and the guardrails."""
        primary = self._primary()
        metrics, rails = {primary["key"]: primary}, []
        if self["guard_errors"]:
            metrics.setdefault("errors", _errors())
            rails.append({"metric": "errors", "limit": self._percent("error_limit", 1.0)})
        if self["guard_slow"]:
            milliseconds = self.number("slow_ms") or 0.0
            key = f"over_{milliseconds:g}_ms".replace(".", "_")
            metrics.setdefault(key, _slow(key, milliseconds))
            rails.append({"metric": key, "limit": self._percent("slow_limit", 1.0)})
        for metric in self._others():
            metrics.setdefault(metric["key"], metric)
        return metrics, rails

    def _primary(self) -> dict[str, Any]:
        measure = self["measure"]
        if measure == "errors":
            return _errors()
        if measure == "slow":
            milliseconds = self.number("limit_ms") or 0.0
            return _slow(f"over_{milliseconds:g}_ms".replace(".", "_"), milliseconds)
        kind = {"mean": MetricKind.MEAN, "ratio": MetricKind.RATIO}.get(measure, MetricKind.PROPORTION)
        event = self["event"]
        hours = self.number("window_hours")
        return {
            "key": key_of(event) or "primary", "kind": kind.value, "source": Source.EVENT.value, "event": event,
            "denominator": self["denominator"] if kind is MetricKind.RATIO else "",
            "higher_is_better": self["direction"] != "lower",
            "window_seconds": None if hours is None else round(hours * 3600),
        }  # fmt: skip

    def _others(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for number, line in enumerate([line.strip() for line in self["others"].splitlines()], 1):
            if not line:
                continue
            match = OTHER_LINE.match(line)
            if match is None or len(found) >= MAX_OTHERS:
                self.faults["others"] = (
                    f"Line {number} ({line[:40]!r}) is none of: share of EVENT, mean of EVENT, EVENT per EVENT, p95 of "
                    f"latency (at most {MAX_OTHERS} lines)."
                )
                break
            found.append(_other(match))
        return found

    def _percent(self, name: str, default: float | None = None) -> float | None:
        value = self.number(name)
        return value / 100.0 if value is not None else None if default is None else default / 100.0


def typed_of(name: str, endpoint: str, version: str, design: Design) -> Typed:
    """A stored design as the form shows it."""
    primary = design.primary_metric
    measure = _measure_of(primary)
    is_share = measure in SHARES
    rails = {rail.metric: rail for rail in design.guardrails}
    slow = next((m for m in design.metrics if m.threshold_seconds and m.key in rails), None)
    errors = next((m for m in design.metrics if m.source is Source.ERRORS and m.key in rails), None)
    others = [m for m in design.metrics if m.key != primary.key and m.key not in rails]
    relative = design.effect_relative is not None
    effect = design.effect_relative if relative else design.effect_absolute
    values = {
        "name": name, "endpoint": endpoint, "version": version, "hypothesis": design.hypothesis,
        "unit": design.unit.value,
        "share": _plain(design.share_of_treatment * 100), "coverage": _plain(design.coverage_bp / 100),
        "measure": measure, "event": primary.event, "denominator": primary.denominator,
        "limit_ms": _plain((primary.threshold_seconds or 0) * 1000) if measure == "slow" else "",
        "window_hours": _plain(primary.window_seconds / 3600) if primary.window_seconds else "",
        "direction": "higher" if primary.higher_is_better else "lower",
        "baseline": _plain(design.baseline, 100 if is_share else 1), "spread": _plain(design.spread),
        "effect_kind": "relative" if relative else "absolute",
        "effect": _plain(effect, 100 if relative or is_share else 1),
        "guard_errors": "on" if errors else "", "guard_slow": "on" if slow else "",
        "error_limit": _plain(rails[errors.key].limit, 100) if errors else "1",
        "slow_ms": _plain((slow.threshold_seconds or 0) * 1000) if slow else "500",
        "slow_limit": _plain(rails[slow.key].limit, 100) if slow else "1",
        "others": "\n".join(_line_of(metric) for metric in others),
        "mode": design.mode.value, "alpha": _plain(design.alpha, 100), "power": _plain(design.power, 100),
        "looks": str(design.looks), "minimum_days": str(design.minimum_days),
        "planned_total": str(design.planned_total or ""), "units_per_day": "",
        "look_every_hours": str(design.look_every_hours), "dimensions": ", ".join(design.dimensions),
        "stop_on_harm": "on" if design.stop_on_harm else "",
    }  # fmt: skip
    return Typed(values)


def key_of(event: str) -> str:
    """A metric's key from an event's name: "order.paid" is "order_paid"."""
    return re.sub(r"[^a-z0-9_]+", "_", event.lower()).strip("_")[:40]


def _errors() -> dict[str, Any]:
    kind, source = MetricKind.PROPORTION.value, Source.ERRORS.value
    return {"key": "errors", "kind": kind, "source": source, "name": "failed requests", "higher_is_better": False}


def _slow(key: str, milliseconds: float) -> dict[str, Any]:
    return {
        "key": key, "kind": MetricKind.PROPORTION.value, "source": Source.LATENCY.value, "higher_is_better": False,
        "name": f"requests over {milliseconds:g} ms", "threshold_seconds": milliseconds / 1000.0,
    }  # fmt: skip


def _other(match: re.Match[str]) -> dict[str, Any]:
    if match["q"]:
        share = int(match["q"]) / 10 ** len(match["q"])
        return {
            "key": f"p{match['q']}", "kind": MetricKind.QUANTILE.value, "source": Source.LATENCY.value,
            "quantile": share,
            "name": f"p{match['q']} of latency", "higher_is_better": False,
        }  # fmt: skip
    if match["top"]:
        key = key_of(f"{match['top']}_per_{match['bottom']}")
        return {"key": key, "kind": MetricKind.RATIO.value, "event": match["top"], "denominator": match["bottom"]}
    kind = MetricKind.MEAN if match["verb"] == "mean" else MetricKind.PROPORTION
    return {"key": key_of(f"{match['verb']}_{match['event']}"), "kind": kind.value, "event": match["event"]}


def _line_of(metric: Metric) -> str:
    if metric.kind is MetricKind.QUANTILE:
        return f"p{f'{metric.quantile or 0:.3f}'[2:].rstrip('0').ljust(2, '0')} of latency"
    if metric.kind is MetricKind.RATIO:
        return f"{metric.event} per {metric.denominator}"
    return f"{'mean' if metric.kind is MetricKind.MEAN else 'share'} of {metric.event}"


def _measure_of(metric: Metric) -> str:
    if metric.source is Source.ERRORS:
        return "errors"
    if metric.source is Source.LATENCY:
        return "slow"
    return {MetricKind.MEAN: "mean", MetricKind.RATIO: "ratio"}.get(metric.kind, "share")


def _field_of(pointer: str, measure: str) -> str:
    """This form's field for a pointer of the service: "/design/metrics/0/event" is "event"."""
    parts = [part for part in pointer.strip("/").split("/") if part != "design"]
    if not parts:
        return ""
    names = {
        "weights_bp": "share", "coverage_bp": "coverage", "primary": "measure", "effect_relative": "effect",
        "effect_absolute": "effect", "secondary": "others", "dimensions": "dimensions", "version_id": "version",
        "endpoint_id": "endpoint", "treatment_version_id": "version",
    }  # fmt: skip
    if parts[0] == "metrics":
        inner = {"key": "event", "threshold_seconds": "limit_ms", "window_seconds": "window_hours", "kind": "measure"}
        is_primary = len(parts) > 2 and parts[1] == "0"
        return inner.get(parts[2], parts[2]) if is_primary else "others"
    if parts[0] == "guardrails":
        return "slow_limit" if parts[1:2] == ["1"] else "error_limit"
    name = names.get(parts[0], parts[0])
    return name if name in FIELDS else ""


def _plain(value: float | None, times: float = 1) -> str:
    return "" if value is None else f"{value * times:.10g}"
