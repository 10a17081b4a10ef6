"""Objectives as Prometheus rules over what the serving processes expose: the same windows, factors and gates.

Counts, not rates, are recorded, so that ratios stay weighted by events; windows over an hour are sums of five-minute
counts, since a range of days would be read anew every thirty seconds. ``increase`` extrapolates: at the very edge of a
limit Prometheus may decide otherwise than exact counts do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import yaml

from apps.slo.domain.burn import Rule, rules_of
from apps.slo.domain.objective import Kind, ObjectiveSpec, Scope
from apps.slo.domain.policy import PPM
from apps.slo.domain.state import span

INTERVAL: Final = "30s"
BOUNDS_MS: Final = (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)
"""The classic buckets of ``pilothouse_serving_request_seconds``, in milliseconds; a test holds them to serving's."""
_DIRECT_SECONDS: Final = 3_600
_REQUESTS: Final = "pilothouse_serving_requests_total"
_SECONDS: Final = "pilothouse_serving_request_seconds"
_BAD_OUTCOMES: Final = {Kind.AVAILABILITY: "timeout|other_5xx", Kind.ERRORS: "model_error|timeout|other_5xx"}


class Histograms(StrEnum):
    CLASSIC = "classic"
    NATIVE = "native"


@dataclass(frozen=True, slots=True)
class Exported:
    """One objective with what its alerts carry."""

    objective_id: str
    spec: ObjectiveSpec
    team: str


@dataclass(frozen=True, slots=True)
class RuleFile:
    """``text`` is YAML; ``notes`` say where Prometheus measures something else than Pilothouse does."""

    text: str
    notes: tuple[str, ...]


def rule_file(
    endpoint: str,
    environment: str,
    objectives: Sequence[Exported],
    *,
    base_url: str,
    histograms: Histograms = Histograms.CLASSIC,
) -> RuleFile:
    """Recording and alert rules of one endpoint, for ``rule_files`` of a Prometheus that scrapes its processes."""
    writer = _Writer(endpoint, environment, base_url.rstrip("/"), histograms)
    groups: list[dict[str, Any]] = [{"name": f"pilothouse:{endpoint}", "interval": INTERVAL, "rules": writer.golden()}]
    for one in objectives:
        rules = [*writer.records(one), *writer.alerts(one)]
        groups.append({"name": f"pilothouse:{endpoint}:{one.objective_id}", "interval": INTERVAL, "rules": rules})
    head = "".join(f"# {line}\n" for line in (f"Pilothouse rules of endpoint {endpoint}.", *writer.notes))
    text = yaml.dump({"groups": groups}, Dumper=_Dumper, sort_keys=False, width=118, allow_unicode=True)
    return RuleFile(head + text, tuple(writer.notes))


class _Dumper(yaml.SafeDumper):
    """Expressions of several lines as blocks, as people write them."""


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _block)


class _Writer:
    def __init__(self, endpoint: str, environment: str, base_url: str, histograms: Histograms) -> None:
        self.endpoint = endpoint
        self.environment = environment
        self.base_url = base_url
        self.histograms = histograms
        self.notes: list[str] = []
        self._called = f'endpoint={_quoted(endpoint)},route=~"weighted|assigned"'

    def golden(self) -> list[dict[str, Any]]:
        """Rate, error ratio, good ratio and percentiles of each version, for dashboards."""
        total = f'sum by (endpoint, version) (rate({_REQUESTS}{{{self._called},outcome!="client_4xx"}}[5m]))'
        bad = (
            f"sum by (endpoint, version) (rate({_REQUESTS}{{{self._called},"
            f'outcome=~"{_BAD_OUTCOMES[Kind.ERRORS]}"}}[5m]))'
        )
        rules = [
            self._record("pilothouse:requests:rate5m", _versioned(total)),
            self._record("pilothouse:error_ratio:rate5m", _versioned(f"({bad}) / ({total} > 0)")),
            self._record("pilothouse:good_ratio:rate5m", _versioned(f"1 - ({bad}) / ({total} > 0)")),
        ]
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            expr = self._quantile(share, "5m", "endpoint, version")
            rules.append(self._record(f"pilothouse:latency_{name}_seconds:rate5m", _versioned(expr)))
        return rules

    def records(self, one: Exported) -> list[dict[str, Any]]:
        """Total and bad requests of every window up to an hour; longer ones are sums of these."""
        if one.spec.kind is Kind.PERCENTILE:
            return []
        seconds = {300} | {each for rule in rules_of(one.spec) for each in (rule.long_seconds, rule.short_seconds)}
        found = []
        for window in sorted(each for each in seconds if each <= _DIRECT_SECONDS):
            total, bad = self._counts(one.spec, _window(window))
            labels = {"objective_id": one.objective_id}
            found.append(self._record(f"pilothouse_slo:total:increase{_window(window)}", total, labels))
            found.append(self._record(f"pilothouse_slo:bad:increase{_window(window)}", bad, labels))
        return found

    def alerts(self, one: Exported) -> list[dict[str, Any]]:
        return [
            {
                "alert": _alert_name(one.spec, rule),
                "expr": self._plain(one.spec) if one.spec.kind is Kind.PERCENTILE else _tier_expr(one, rule),
                "labels": {
                    "severity": rule.severity.value,
                    "source": "pilothouse",
                    "endpoint": self.endpoint,
                    "environment": self.environment,
                    "team": one.team,
                    "objective": one.spec.name,
                    "objective_id": one.objective_id,
                    "tier": rule.name,
                },
                "annotations": self._annotations(one, rule),
            }
            for rule in rules_of(one.spec)
        ]

    def _annotations(self, one: Exported, rule: Rule) -> dict[str, str]:
        gone = ""
        if one.spec.kind is not Kind.PERCENTILE:
            seconds = one.spec.period_days * 86_400 / float(rule.factor)
            gone = f" At this pace the budget of {one.spec.period_days} days lasts at most {span(seconds)}."
        found = {
            "summary": f"{self.endpoint}: {one.spec.name} ({rule.name})",
            "description": f"Promised: {one.spec.sentence}.{gone}",
            "dashboard_url": f"{self.base_url}/endpoints/{self.endpoint}",
        }
        return found | ({"runbook_url": one.spec.runbook_url} if one.spec.runbook_url else {})

    def _counts(self, spec: ObjectiveSpec, window: str) -> tuple[str, str]:
        by = "endpoint, version" if spec.scope is Scope.EACH else "endpoint"
        if spec.kind in _BAD_OUTCOMES:
            total = f'sum by ({by}) (increase({_REQUESTS}{{{self._called},outcome!="client_4xx"}}[{window}]))'
            bad = _BAD_OUTCOMES[spec.kind]
            return total, f'sum by ({by}) (increase({_REQUESTS}{{{self._called},outcome=~"{bad}"}}[{window}]))'
        if self.histograms is Histograms.NATIVE:
            whole = f"sum by ({by}) (increase({_SECONDS}{{{self._called}}}[{window}]))"
            total = f"histogram_count({whole})"
            slow = f"(1 - histogram_fraction(-Inf, {(spec.limit_ms or 0) / 1000}, {whole}))"
            # A fraction of no request is NaN, and so would be every later sum over days that it stands in.
            return total, f"({total} > 0) * {slow} or {total}"
        bound = self._bound(spec)
        total = f"sum by ({by}) (increase({_SECONDS}_count{{{self._called}}}[{window}]))"
        fast = f'sum by ({by}) (increase({_SECONDS}_bucket{{{self._called},le="{bound}"}}[{window}]))'
        return total, f"{total} - {fast}"

    def _bound(self, spec: ObjectiveSpec) -> str:
        """The bucket that the limit is counted by: its own, or the next one below, which calls more of them slow."""
        limit = spec.limit_ms or 0
        bound = max((each for each in BOUNDS_MS if each <= limit), default=BOUNDS_MS[0])
        if bound != limit:
            self._note(
                f"{spec.name}: no classic bucket ends at {limit} ms, requests over {bound:g} ms count as slow; "
                "choose a limit that is a bucket's bound, or native histograms."
            )
        return str(float(bound) / 1000)

    def _plain(self, spec: ObjectiveSpec) -> str:
        share = spec.target_ppm / PPM
        by = "endpoint, version" if spec.scope is Scope.EACH else "endpoint"
        return f"{self._quantile(share, _window(spec.window_seconds or 300), by)} > {(spec.limit_ms or 0) / 1000}"

    def _quantile(self, share: float, window: str, by: str) -> str:
        if self.histograms is Histograms.NATIVE:
            return f"histogram_quantile({share}, sum by ({by}) (rate({_SECONDS}{{{self._called}}}[{window}])))"
        inner = f"sum by ({by}, le) (rate({_SECONDS}_bucket{{{self._called}}}[{window}]))"
        return f"histogram_quantile({share}, {inner})"

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _record(self, name: str, expr: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
        return {"record": name, "expr": expr} | ({"labels": labels} if labels else {})


def _tier_expr(one: Exported, rule: Rule) -> str:
    """Long and short window over the limit, strictly; enough bad events; the share of the budget really spent."""
    limit, spent = _number(float(rule.limit)), _number(float(rule.spent))
    long_total, long_bad = (_sum(one, what, rule.long_seconds) for what in ("total", "bad"))
    short_total, short_bad = (_sum(one, what, rule.short_seconds) for what in ("total", "bad"))
    period = _sum(one, "total", one.spec.period_days * 86_400)
    assumed = f"clamp_min({period}, {one.spec.policy.floor_requests})"
    return "\n".join(
        [
            f"{long_bad} > {limit} * {long_total}",
            f"and {short_bad} > {limit} * {short_total}",
            f"and {long_bad} > {rule.min_bad - 0.5}",
            f"and {long_bad} >= {spent} * {assumed}",
        ]
    )


def _sum(one: Exported, what: str, seconds: int) -> str:
    labels = f"{{objective_id={_quoted(one.objective_id)}}}"
    if seconds <= _DIRECT_SECONDS:
        return f"pilothouse_slo:{what}:increase{_window(seconds)}{labels}"
    return f"sum_over_time(pilothouse_slo:{what}:increase5m{labels}[{_window(seconds)}:5m])"


def _versioned(expr: str) -> str:
    return f'label_replace({expr}, "model_version", "$1", "version", "(.*)")'


def _alert_name(spec: ObjectiveSpec, rule: Rule) -> str:
    if spec.kind is Kind.PERCENTILE:
        return "PilothousePercentileOverLimit"
    return f"PilothouseBudgetBurn{''.join(part.capitalize() for part in rule.name.split() if part.isalnum())}"


def _window(seconds: int) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _number(value: float) -> str:
    return f"{value:.12g}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
