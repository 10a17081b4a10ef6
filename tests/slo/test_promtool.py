"""The exported rules in Prometheus' own hands: promtool accepts them, and they fire in the minutes in which ours do."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from apps.slo.domain.burn import Ints
from apps.slo.domain.objective import DEFAULTS, ObjectiveSpec, Scope
from apps.slo.domain.prometheus import BOUNDS_MS, Exported, Histograms, rule_file
from apps.slo.domain.replay import replay
from serving.errors import Outcome
from serving.metrics import BOUNDS, Route, SharedMetrics

PROMTOOL = os.environ.get("PROMTOOL") or shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None,
    reason="NOT RUN: no promtool, nothing here shows that Prometheus takes the rules; Debian: prometheus",
)
EXPORTED = [
    Exported(f"ob_{place}", replace(spec, runbook_url="https://runbooks.example.com/x"), "default")
    for place, spec in enumerate(DEFAULTS)
]


def promtool(*arguments: str) -> str:
    assert PROMTOOL is not None
    ran = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=170, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_buckets_that_rules_count_by_are_those_that_serving_exposes() -> None:
    assert [bound / 1000 for bound in BOUNDS_MS] == list(BOUNDS)
    text = SharedMetrics(1, {"endpoint": "e", "version": "1.0.0"}).render().decode()
    assert f'le="{float(BOUNDS_MS[8]) / 1000}"' in text
    exported = rule_file("e", "production", EXPORTED, base_url="https://x").text
    for name in ("pilothouse_serving_requests_total", "pilothouse_serving_request_seconds_bucket"):
        assert name in text
        assert name in exported
    assert {"weighted", "assigned"} <= set(Route)
    assert {"timeout", "other_5xx", "model_error", "client_4xx"} <= set(Outcome)


@needs_promtool
@pytest.mark.parametrize("histograms", list(Histograms))
@pytest.mark.parametrize("scope", list(Scope))
def test_promtool_accepts_every_default_objective(tmp_path: Path, histograms: Histograms, scope: Scope) -> None:
    objectives = [replace(one, spec=replace(one.spec, scope=scope)) for one in EXPORTED]
    found = rule_file('a "b"\\c', "production", objectives, base_url="https://x/", histograms=histograms)
    (tmp_path / "rules.yml").write_text(found.text)
    said = promtool("check", "rules", str(tmp_path / "rules.yml"))
    assert "SUCCESS" in said
    for group in yaml.safe_load(found.text)["groups"]:
        assert group["interval"] == "30s"
        for rule in group["rules"]:
            if "alert" in rule:
                assert rule["labels"]["severity"] in {"page", "ticket"}
                assert rule["annotations"]["runbook_url"] == "https://runbooks.example.com/x"
                assert rule["annotations"]["dashboard_url"].startswith("https://x/endpoints/")


def test_a_limit_between_two_buckets_is_counted_by_the_lower_one_and_says_so() -> None:
    spec = replace(DEFAULTS[0], limit_ms=300)
    found = rule_file("e", "staging", [Exported("ob_1", spec, "default")], base_url="https://x")
    assert 'le="0.25"' in found.text
    assert "over 250 ms count as slow" in found.notes[0]
    assert found.text.startswith("# Pilothouse rules of endpoint e.\n# p95 under 500 ms: no classic bucket ends at 300")
    native = rule_file(
        "e", "staging", [Exported("ob_1", spec, "default")], base_url="https://x", histograms=Histograms.NATIVE
    )
    assert native.notes == ()


def counters(total: Ints, bad: Ints, spec: ObjectiveSpec) -> list[dict[str, str]]:
    """What a serving process would have exposed at the end of each minute."""
    labels = 'endpoint="late-arrival",version="1.0.0",route="weighted"'

    def series(name: str, more: str, values: Ints) -> dict[str, str]:
        return {
            "series": f"{name}{{{labels},{more}}}",
            "values": " ".join(map(str, np.r_[0, np.cumsum(values)].tolist())),
        }

    good = total - bad
    return [
        series("pilothouse_serving_requests_total", 'outcome="good"', good),
        series("pilothouse_serving_requests_total", 'outcome="timeout"', bad),
        series("pilothouse_serving_requests_total", 'outcome="client_4xx"', total),
    ]


@needs_promtool
def test_alerts_fire_and_clear_in_the_minutes_in_which_ours_do(tmp_path: Path) -> None:
    """Thirty hours at 100 requests a minute, an outage of half an hour, and a slow burn of 1 % later on."""
    minutes = 36 * 60
    total = np.full(minutes, 100, np.int64)
    bad = np.zeros(minutes, np.int64)
    bad[1000:1030] = 100
    bad[1500:1700] = 8
    availability = DEFAULTS[2]
    one = Exported("ob_2", availability, "default")
    (tmp_path / "rules.yml").write_text(rule_file("late-arrival", "production", [one], base_url="https://x").text)
    ours = replay(availability, 0, minutes * 60, np.arange(minutes) * 60, total, bad)
    cases, checked = [], 0
    for tier in ours.tiers:
        on = np.zeros(minutes, bool)
        for episode in tier.episodes:
            on[episode.detected_at // 60 - 1 : (episode.reset_at or minutes * 60) // 60] = True
        assert on.any(), tier.name
        edges = np.flatnonzero(np.diff(on.astype(int)))
        near = 15 if tier.name.startswith("ticket") else 3  # sums of five-minute counts move in steps of five minutes
        for minute in sorted({20, 900, 1003, 1010, 1028, 1040, 1100, 1200, 1490, 1550, 1600, 1690, 1720, 2000, 2150}):
            if edges.size and np.abs(edges - minute).min() < near:
                continue
            cases.append(case_of(tier.name, minute, bool(on[minute]), one))
            checked += 1
    assert checked > 40
    assert sum(bool(case["exp_alerts"]) for case in cases) > 12
    story = {"interval": "1m", "input_series": counters(total, bad, availability), "alert_rule_test": cases}
    test = {"rule_files": ["rules.yml"], "evaluation_interval": "30s", "tests": [story]}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(test, width=10**7))
    assert "SUCCESS" in promtool("test", "rules", str(tmp_path / "tests.yml"))


def case_of(tier: str, minute: int, is_on: bool, one: Exported) -> dict[str, Any]:
    """What promtool is to find just after ``minute`` has ended."""
    text = yaml.safe_load(rule_file("late-arrival", "production", [one], base_url="https://x").text)
    rule = next(
        each for group in text["groups"] for each in group["rules"] if each.get("labels", {}).get("tier") == tier
    )
    alert = {"exp_labels": rule["labels"], "exp_annotations": rule["annotations"]}
    return {"eval_time": f"{minute + 1}m", "alertname": rule["alert"], "exp_alerts": [alert] if is_on else []}
