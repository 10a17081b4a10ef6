"""The burn tiers of the exported rules in a real Prometheus, over days of native histograms: each fires and stops in
the minutes in which our own evaluation does.

Samples are remote-written at their times, the rules' own records are made for those times by promtool as Prometheus
would have made them, and the alerts' expressions are asked at the moments at which Prometheus evaluates them. Two
things make that exact (Prometheus 2.42): samples stand at the moments of evaluation, so that nothing is extrapolated;
and windows of more than an hour are sums of five-minute counts, which move on five-minute marks, so ours are taken to
the last mark too.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from apps.slo.domain.burn import Ints, RuleTable, judge
from apps.slo.domain.objective import DEFAULTS, ObjectiveSpec
from apps.slo.domain.prometheus import Exported, Histograms, rule_file
from apps.slo.domain.replay import replay
from tests.serving.processes import eventually
from tests.slo.test_promtool import PROMTOOL, needs_promtool
from tests.telemetry.prometheus import NATIVE_HISTOGRAMS, PrometheusServer
from tests.telemetry.remote_write import Histogram, Series, remote_write

pytestmark = [needs_promtool, pytest.mark.timeout(600)]
SPEC = DEFAULTS[1]
"""p99 under 1000 ms: a limit that is a bucket's bound in every schema. Its tiers burn above 14.4, 6, 3 and 1 %."""
SAMPLE, FINE, PROBE = 30, 200, 600
"""Seconds between two samples in the last ``FINE`` minutes (twice as many before), and of silence before all, in which
the moments of evaluation are found out."""
ENDPOINT = "late-arrival"
FAST, SLOW = -212, 64
"""Buckets of schema 6: about 100 ms, and 2 s."""


def a_story() -> tuple[Ints, Ints]:
    """(total, bad) of three and a half days' minutes: 8 % are slow for five hours, later all for one, then none."""
    minutes = 5_040
    total, bad = np.full(minutes, 100, np.int64), np.zeros(minutes, np.int64)
    total[::7] = 140
    bad[1_500:1_800] = 8
    bad[4_500:4_560] = total[4_500:4_560]
    return total, bad


def histograms(begin: float, total: Ints, bad: Ints) -> list[tuple[float, Histogram]]:
    """Half of each minute's requests are there half way through it."""
    halves = [np.repeat(counts // 2, 2) for counts in (total - bad, bad)]
    halves[0][1::2] += (total - bad) % 2
    halves[1][1::2] += bad % 2
    fast, slow = (np.concatenate([[0], np.cumsum(half)]).tolist() for half in halves)
    return [
        (begin + SAMPLE * place, Histogram(6, {FAST: fast[place], SLOW: slow[place]}, 0, 0.1 * fast[place]))
        for place in range(len(fast))
        if place % 2 == 0 or place > len(fast) - 2 * FINE
    ]


@dataclass
class Burned:
    """A Prometheus that has recorded the story of one endpoint, and the rules that are exported for it."""

    server: PrometheusServer
    folder: Path
    rules: Path
    phase: float
    begin: float
    total: Ints
    bad: Ints

    def ends(self) -> Ints:
        """When each minute ends: at an evaluation, the last one before a full minute of the clock."""
        return self.begin + 60 * np.arange(1, self.total.size + 1)

    def ask(self, query: str, since: float, until: float, step: float) -> list[dict[str, Any]]:
        given = {"query": query, "start": f"{since:.3f}", "end": f"{until:.3f}", "step": f"{step:.3f}"}
        answer = httpx.post(f"{self.server.url}/api/v1/query_range", data=given, timeout=60).json()
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def fires(self, expr: str) -> Any:
        """At the end of each minute, whether the expression has an answer."""
        ends, on = self.ends(), np.zeros(self.total.size, bool)
        for start in range(0, ends.size, 5_000):
            some = ends[start : start + 5_000]
            for row in self.ask(expr, some[0], some[-1], 60):
                on[[round((float(at) - self.begin) / 60) - 1 for at, _ in row["values"]]] = True
        return on

    def backfill(self, since: float, until: float) -> None:
        """What the rules would have recorded, as blocks that the server serves from its next start on."""
        written = self.folder / "blocks"
        ran = subprocess.run(
            [str(PROMTOOL), "tsdb", "create-blocks-from", "rules", f"--start={since:.0f}", f"--end={until:.0f}",
             f"--url={self.server.url}", f"--output-dir={written}", "--quiet", str(self.rules)],
            capture_output=True, text=True, timeout=170, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        for block in written.iterdir():
            shutil.move(block, self.folder / "data" / block.name)
        written.rmdir()

    def restart(self, rules: tuple[Path, ...] = ()) -> None:
        self.server.stop()
        self.server = PrometheusServer(self.folder, flags=NATIVE_HISTOGRAMS, rules=rules).wait_ready()


def series(points: list[tuple[float, Histogram]]) -> Series:
    labels = {"__name__": "pilothouse_serving_request_seconds", "endpoint": ENDPOINT, "version": "1.0.0"}
    return Series({**labels, "route": "weighted"}, points)


def recorded(folder: Path, total: Ints, bad: Ints) -> Burned:
    """A story that ends now. 1. ten minutes without a request, and what is recorded of them says at which moments
    Prometheus evaluates these rules; 2. the story, its samples at those moments; 3. what is recorded of it."""
    one = Exported("ob_1", SPEC, "default")
    text = rule_file(ENDPOINT, "production", [one], base_url="https://x", histograms=Histograms.NATIVE).text
    (group,) = [each for each in yaml.safe_load(text)["groups"] if each["name"].endswith(":ob_1")]
    rules = folder / "rules.yml"
    rules.write_text(yaml.safe_dump({"groups": [group]}), encoding="utf-8")
    server = PrometheusServer(folder, flags=NATIVE_HISTOGRAMS).wait_ready()
    begin = (time.time() // 60 - total.size - 1) * 60
    found = Burned(server, folder, rules, 0.0, begin, total, bad)
    silence = [(begin - PROBE - SAMPLE * place, Histogram(6)) for place in range(10, -1, -1)]
    remote_write(server.url, [series(silence)])
    found.backfill(begin - PROBE - 240, begin - PROBE)
    found.restart()
    (row,) = found.ask("timestamp(pilothouse_slo:total:increase5m)", begin - PROBE, begin - PROBE, 1)
    found.phase = float(row["values"][0][1]) % SAMPLE
    found.begin = begin - SAMPLE + found.phase
    remote_write(found.server.url, [series(histograms(found.begin, total, bad))])
    found.backfill(begin - 60, begin + 60 * total.size + 60)
    return found


@pytest.fixture(scope="module")
def burned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Burned]:
    found = recorded(tmp_path_factory.mktemp("burned"), *a_story())
    found.restart()
    try:
        yield found
    finally:
        found.server.stop()


def expressions(burned: Burned) -> dict[str, str]:
    """Of each tier, as exported."""
    groups = yaml.safe_load(burned.rules.read_text(encoding="utf-8"))["groups"]
    return {rule["labels"]["tier"]: rule["expr"] for group in groups for rule in group["rules"] if "alert" in rule}


def ours(spec: ObjectiveSpec, burned: Burned) -> dict[str, Any]:
    """Each tier at the end of each minute by our own judgement; windows of more than an hour until the last mark of
    five minutes before it."""
    sums = np.concatenate([np.zeros((2, 1), np.int64), np.cumsum([burned.total, burned.bad], axis=1)], axis=1)
    ends = np.arange(1, burned.total.size + 1)
    first_mark = round((-(-burned.begin // 300) * 300 - (SAMPLE - burned.phase) - burned.begin) / 60) % 5
    marks = (ends - 1 - first_mark) // 5 * 5 + first_mark

    def window(minutes: int) -> Any:
        until = np.maximum(ends if minutes <= 60 else marks, 0)
        return sums[:, until] - sums[:, np.maximum(until - minutes, 0)]

    table = RuleTable.of([spec])
    long, short = ([window(int(each)) for each in lengths] for lengths in (table.long_minutes, table.short_minutes))
    period = window(spec.period_days * 1440)[0]
    columns = [np.stack([one[place] for one in side]) for side in (long, short) for place in (0, 1)]
    found: dict[str, Any] = {}
    for place, rule in enumerate(table.rules):
        some = RuleTable(
            (rule,), table.owner[place : place + 1], *((p[place], q[place]) for p, q in (table.limit, table.spent)),
            *(column[place : place + 1] for column in
              (table.min_bad, table.long_minutes, table.short_minutes, table.floor)),
        )  # fmt: skip
        found[rule.name] = np.asarray(judge(some, *(column[place] for column in columns), period).fires, bool)
    return found


def edges(on: Any) -> list[int]:
    """The minutes in which it begins, and is over, in turn."""
    return (np.flatnonzero(np.diff(on.astype(int))) + 1).tolist()


@pytest.mark.slow
def test_every_tier_fires_and_stops_in_the_minutes_in_which_ours_does(burned: Burned) -> None:
    judged, minutes = ours(SPEC, burned), burned.total.size
    replayed = replay(SPEC, 0, minutes * 60, np.arange(minutes) * 60, burned.total, burned.bad)
    assert [len(tier.episodes) for tier in replayed.tiers] == [1, 2, 1, 2]
    for tier in replayed.tiers:
        theirs = burned.fires(expressions(burned)[tier.name])
        assert np.flatnonzero(theirs != judged[tier.name]).tolist() == [], tier.name
        exact = [edge // 60 for one in tier.episodes for edge in (one.detected_at - 60, one.reset_at or 0)]
        later = np.array(edges(theirs)) - exact
        most = 0 if tier.name == "page fast" else 5  # until the next mark
        assert later.min() >= 0, tier.name
        assert later.max() <= most, tier.name


@pytest.mark.slow
def test_a_limit_a_little_higher_is_seen(burned: Burned) -> None:
    """The comparison above tells: one bad minute more that a tier needs moves its edges."""
    expr, judged = expressions(burned)["page fast"], ours(SPEC, burned)["page fast"]
    assert expr.count("> 0.144 * ") == 2
    moved = edges(burned.fires(expr.replace("> 0.144 * ", "> 0.16 * ")))
    assert moved[0] == edges(judged)[0] + 1


@pytest.mark.parametrize(("since", "until"), [(50, 0), (70, 10)], ids=["it burns", "ten minutes after"])
def test_the_tiers_that_burn_now_fire_live(tmp_path: Path, since: int, until: int) -> None:
    """Three hours; from ``since`` to ``until`` minutes before now all are slow. Evaluated by Prometheus itself."""
    total, bad = np.full(180, 100, np.int64), np.zeros(180, np.int64)
    bad[180 - since : 180 - until] = 100
    found = recorded(tmp_path, total, bad)
    text = found.rules.read_text(encoding="utf-8")
    assert "interval: 30s" in text
    found.rules.write_text(text.replace("interval: 30s", "interval: 1s"), encoding="utf-8")
    try:
        found.restart((found.rules,))

        def firing() -> dict[str, str] | None:
            (group,) = httpx.get(f"{found.server.url}/api/v1/rules", timeout=30).json()["data"]["groups"]
            alerts = [rule for rule in group["rules"] if rule["type"] == "alerting"]
            if not all(rule["health"] == "ok" for rule in group["rules"]):
                return None
            return {rule["labels"]["tier"]: rule["state"] for rule in alerts}

        wanted = {name: "firing" if on[-1] else "inactive" for name, on in ours(SPEC, found).items()}
        assert sorted(wanted.values()) == ["firing"] * 4 if until == 0 else ["firing"] * 3 + ["inactive"]
        assert eventually(firing, 60) == wanted
        (alert, *_) = httpx.get(f"{found.server.url}/api/v1/alerts", timeout=30).json()["data"]["alerts"]
        assert alert["labels"]["objective_id"] == "ob_1"
        assert alert["labels"]["endpoint"] == ENDPOINT
    finally:
        found.server.stop()
