"""Native histograms in a real Prometheus: what our source reads of them, and what the exported rules make of them."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from apps.slo.domain.objective import DEFAULTS, Scope
from apps.slo.domain.prometheus import Exported, Histograms, rule_file
from apps.telemetry.domain.cells import FATES, Cell
from apps.telemetry.domain.window import WindowRequest
from apps.telemetry.drivers.base import Pulled
from apps.telemetry.drivers.prometheus import Prometheus, _Native
from apps.telemetry.models import PullSource
from apps.telemetry.selectors import windows
from apps.telemetry.services.pull import pull
from apps.telemetry.services.pull_sources import pull_source_create
from tests.fakes.targets import ALICE, make_site
from tests.serving.processes import eventually
from tests.telemetry.natives import (
    BACK,
    GONE,
    STEP,
    STEPS,
    Life,
    Told,
    a_life,
    an_idle_life,
    bucket_of,
    nearest_rank,
    together,
)
from tests.telemetry.prometheus import NATIVE_HISTOGRAMS, PrometheusServer
from tests.telemetry.remote_write import remote_write

SCHEMAS = {"schema-6": (6, 6), "schema-8": (8, 8), "schema-3": (3, 3), "schema-6-then-4": (6, 4)}
OVER_A_BOUND, BETWEEN_BOUNDS = replace(DEFAULTS[0], scope=Scope.EACH), replace(DEFAULTS[0], limit_ms=300)
OBJECTIVES = {
    "ob_500": OVER_A_BOUND, "ob_300": BETWEEN_BOUNDS, "ob_errors": DEFAULTS[3],
    "ob_p50": replace(DEFAULTS[4], limit_ms=50, scope=Scope.EACH),
}  # fmt: skip
PERCENTS = (500, 950, 990)


def rules_of(endpoint: str) -> str:
    """The exported file, evaluated every second so that nobody waits for it."""
    exported = [Exported(key, spec, "default") for key, spec in OBJECTIVES.items()]
    text = rule_file(
        endpoint, "production", exported, base_url="https://x", histograms=Histograms.NATIVE
    ).text  # fmt: skip
    assert "interval: 30s" in text
    return text.replace("interval: 30s", "interval: 1s")


class Recorded:
    """A Prometheus that has recorded ``lives``, and evaluates the rules of ``schema-6``, ``schema-3`` and ``idle``."""

    def __init__(self, folder: Path) -> None:
        begin = int(time.time()) // STEP * STEP - STEPS * STEP
        self.lives: list[Life] = [an_idle_life("idle", begin)]
        for seed, (endpoint, schemas) in enumerate(SCHEMAS.items()):
            for place, (variant, pod) in enumerate((("v1-0-0", "a"), ("v1-1-0", "b"), ("v1-1-0", "c"))):
                self.lives.append(a_life(endpoint, variant, f"pod-{pod}", schemas, begin, 10 * seed + place))
        rules = []
        for endpoint in ("schema-6", "schema-3", "idle"):
            rules.append(folder / f"{endpoint}.yml")
            rules[-1].write_text(rules_of(endpoint), encoding="utf-8")
        self.begin, self.end = begin, begin + STEPS * STEP
        self.server = PrometheusServer(folder, flags=NATIVE_HISTOGRAMS, rules=rules)

    def fill(self) -> Recorded:
        self.server.wait_ready()
        remote_write(self.server.url, [series for life in self.lives for series in life.series()])
        self.filled_at = time.time()
        return self

    def told(self, endpoint: str, after: float = 0.0, until: float = math.inf) -> dict[tuple[str, int], Told]:
        """By variant and slot, what was observed and told by samples in (after, until]."""
        found: dict[tuple[str, int], list[Told]] = defaultdict(list)
        for life in self.lives:
            for slot, told in life.slots():
                if life.endpoint == endpoint and after < slot + STEP <= until:
                    found[life.variant, slot].append(told)
        return {key: together(parts) for key, parts in found.items()}

    def pull(self, endpoint: str, since: float, until: float) -> Pulled:
        return Prometheus(endpoint, {"url": self.server.url, "histograms": "native"}).pull(since=since, until=until)

    def ask(self, query: str, at: float | None = None) -> list[dict[str, Any]]:
        given = {"query": query} | ({} if at is None else {"time": f"{at:.3f}"})
        answer = httpx.get(f"{self.server.url}/api/v1/query", params=given, timeout=30).json()
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    found = Recorded(tmp_path_factory.mktemp("natives"))
    try:
        yield found.fill()
    finally:
        found.server.stop()


@pytest.fixture(autouse=True)
def allowed(recorded: Recorded, settings: Any) -> None:
    settings.PILOTHOUSE_OUTBOUND_ALLOW = (f"127.0.0.1:{recorded.server.port}",)


def cells_of(pulled: Pulled) -> dict[tuple[str, int], Cell]:
    return {(one.variant, one.slot_at): one.cell for one in pulled.cells}


def agrees(found: Any, told: Told, schema: int) -> None:
    """Percentiles as near to the exact nearest rank as the schema's buckets are wide; count and sum exactly."""
    assert found.total == told.seconds.size
    assert found.sum_seconds == pytest.approx(told.seconds.sum(), rel=1e-6)
    for per_thousand in PERCENTS:
        exact, estimate = nearest_rank(told.seconds, per_thousand), found.quantile(per_thousand / 1000)
        if schema >= 6:
            assert estimate.midpoint == pytest.approx(exact, rel=0.0055)
        else:  # nobody knows where in its bucket it lies: it is never given out of it
            assert bucket_of(estimate.midpoint, schema) == bucket_of(exact, schema)


@pytest.mark.parametrize("endpoint", SCHEMAS)
def test_every_slot_agrees_with_the_observations_through_gap_and_restart(recorded: Recorded, endpoint: str) -> None:
    told, coarsest = recorded.told(endpoint), min(SCHEMAS[endpoint])
    pulled = recorded.pull(endpoint, recorded.begin, recorded.end)
    cells = cells_of(pulled)
    assert set(cells) == set(told)
    assert len({variant for variant, _ in cells}) == 2
    for key, cell in cells.items():
        assert dict(zip(FATES, cell.fates.tolist(), strict=True)) == {
            fate: told[key].outcomes[fate] for fate in FATES
        }  # fmt: skip
        agrees(cell.histogram(), told[key], coarsest)
    assert pulled.newest == recorded.end
    assert pulled.resolution == ("exact" if coarsest >= 6 else f"schema {coarsest}")


def test_stretches_of_native_histograms_that_follow_each_other_count_everything_once(recorded: Recorded) -> None:
    """Cut in the middle of the gap, at a sample, and just after the restart."""
    cuts = [recorded.begin, *(recorded.begin + at for at in (125, 380, 400, 471)), recorded.end]
    parts = [cells_of(recorded.pull("schema-6", since, until)) for since, until in pairwise(cuts)]
    whole = cells_of(recorded.pull("schema-6", recorded.begin, recorded.end))
    counted = [{key: (cell.fates.sum(), cell.histogram().total) for key, cell in part.items()} for part in parts]
    assert sum(len(part) for part in counted) == len(whole)
    for part in counted:
        for key, counts in part.items():
            assert counts == (whole[key].fates.sum(), whole[key].histogram().total)


@pytest.mark.django_db
@pytest.mark.parametrize(("endpoint", "resolution"), [("schema-6", "exact"), ("schema-3", "schema 3")])
def test_a_source_of_native_histograms_fills_the_windows(
    recorded: Recorded, endpoint: str, resolution: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Prometheus, "delay_seconds", 0.0)
    site = make_site()
    variant = site.endpoint.desired["variants"][0]["key"]
    config = {
        "url": recorded.server.url, "endpoint": endpoint, "histograms": "native", "variants": {"v1-1-0": variant},
        "matchers": {"variant": "v1-1-0"},
    }  # fmt: skip
    source = pull_source_create(actor=ALICE, endpoint_id=site.endpoint.pk, kind="prometheus", config=config)
    PullSource.objects.update(asked_until=recorded.begin)
    while source.asked_until is None or source.asked_until < recorded.end:
        PullSource.objects.update(due_at=datetime.now(UTC) - timedelta(seconds=1))
        pull(source.pk)
        source.refresh_from_db()
        assert source.fault == ""
    told = together([one for (name, _), one in recorded.told(endpoint).items() if name == "v1-1-0"])
    (window,) = windows([WindowRequest(site.endpoint.name, variant)])
    assert (window.total, window.client_4xx) == (told.outcomes.total(), told.outcomes["client_4xx"])
    assert window.bad == told.outcomes["model_error"] + told.outcomes["other_5xx"]
    agrees(window.latency, told, SCHEMAS[endpoint][0])
    assert source.resolution == resolution


def test_buckets_with_bounds_of_somebodys_own_are_refused_and_not_misread() -> None:
    """Newer servers give classic buckets in the form of native ones (schema -53): these are no powers."""
    for rows in ([[0, "0.1", "0.25", "3"], [0, "0.25", "0.5", "1"]], [[0, "10", "+Inf", "2"]]):
        with pytest.raises(ValueError, match="none of a native histogram"):
            _Native.read({"count": "4", "sum": "1", "buckets": rows})


@pytest.mark.parametrize("endpoint", ["schema-6", "schema-3"])
def test_the_exported_rules_evaluate_to_our_own_numbers(recorded: Recorded, endpoint: str) -> None:
    """Prometheus looks at the samples of [t - 5 min, t] and counts from the first of them: so do we."""
    group = f'{{endpoint="{endpoint}"}}'
    at = eventually(lambda: evaluated(recorded, f"pilothouse:latency_p99_seconds:rate5m{group}"), 60)
    first = first_sample(recorded, at)
    slots, ours = recorded.told(endpoint, first, at), cells_of(recorded.pull(endpoint, first, at))
    assert set(slots) == set(ours)
    for variant in ("v1-0-0", "v1-1-0"):
        version = variant.removeprefix("v").replace("-", ".")

        def seen(name: str, version: str = version) -> float:
            (row,) = recorded.ask(f'{name}{{endpoint="{endpoint}",model_version="{version}"}}', at)
            return float(row["value"][1])

        fates = sum(cell.fates for (name, _), cell in ours.items() if name == variant)
        judged, bad = fates.sum() - fates[1], fates[2:].sum()
        assert bad > 100
        assert seen("pilothouse:error_ratio:rate5m") == pytest.approx(bad / judged, rel=1e-9)
        assert seen("pilothouse:good_ratio:rate5m") == pytest.approx(1 - bad / judged, rel=1e-9)
        assert 1 <= seen("pilothouse:requests:rate5m") / (judged / 300) <= 1.08  # rate extrapolates to both ends
        told = together([one for (name, _), one in slots.items() if name == variant])
        wide = 2**2.0 ** -SCHEMAS[endpoint][0]
        for per_thousand in PERCENTS:
            found = seen(f"pilothouse:latency_p{per_thousand // 10}_seconds:rate5m")
            exact = [nearest_rank(told.seconds, per_thousand, more) for more in (-1, 1)]
            assert exact[0] / wide <= found <= exact[1] * wide


def evaluated(recorded: Recorded, name: str) -> float | None:
    """When a rule was first evaluated on everything that was written."""
    rows = recorded.ask(f"{name}[5m]")
    times = [float(at) for row in rows for at, value in row["values"] if float(at) > recorded.filled_at]
    return min(times, default=None)


def first_sample(recorded: Recorded, at: float) -> float:
    """The first one that an evaluation at ``at`` sees in five minutes."""
    places = (place for place in range(STEPS + 1) if not GONE <= place < BACK)
    return next(moment for place in places if (moment := recorded.begin + place * STEP) >= at - 300)


def shares(recorded: Recorded, endpoint: str, key: str) -> tuple[float, dict[str, tuple[float, float]]]:
    """When, and by version ("" for all together) the (total, bad) of five minutes as recorded for an objective."""
    chosen = f'{{endpoint="{endpoint}",objective_id="{key}"}}'
    at = eventually(lambda: evaluated(recorded, f"pilothouse_slo:bad:increase5m{chosen}"), 60)
    totals, bads = (
        {row["metric"].get("version", ""): float(row["value"][1]) for row in recorded.ask(f"{name}{chosen}", at)}
        for name in ("pilothouse_slo:total:increase5m", "pilothouse_slo:bad:increase5m")
    )
    assert set(totals) == set(bads)
    return at, {version: (total, bads[version]) for version, total in totals.items()}


@pytest.mark.parametrize("endpoint", ["schema-6", "schema-3"])
def test_slow_requests_are_counted_exactly_at_a_power_of_two_and_within_a_bucket_elsewhere(
    recorded: Recorded, endpoint: str
) -> None:
    at, found = shares(recorded, endpoint, "ob_500")
    slots = recorded.told(endpoint, first_sample(recorded, at), at)
    assert set(found) == {"1.0.0", "1.1.0"}
    for version, (total, bad) in found.items():
        told = together([one for (variant, _), one in slots.items() if variant == f"v{version.replace('.', '-')}"])
        assert 1 <= total / told.seconds.size <= 1.08  # increase extrapolates to both ends
        assert bad / total == pytest.approx((told.seconds > 0.5).mean(), rel=1e-9)
    at, found = shares(recorded, endpoint, "ob_300")
    told = together(list(recorded.told(endpoint, first_sample(recorded, at), at).values()))
    places = bucket_of(told.seconds.clip(1e-9), SCHEMAS[endpoint][0])
    limit = bucket_of(np.array([0.3]), SCHEMAS[endpoint][0])[0]
    assert (places > limit).mean() <= found[""][1] / found[""][0] <= (places >= limit).mean()


def test_five_minutes_without_a_request_are_no_slow_ones_and_no_hole(recorded: Recorded) -> None:
    """A fraction of nothing is NaN, and one NaN makes every later sum over days NaN: no alert of it would fire."""
    assert shares(recorded, "idle", "ob_300")[1] == {"": (0.0, 0.0)}
    assert shares(recorded, "idle", "ob_500")[1] == {"1.0.0": (0.0, 0.0)}


def test_a_percentile_over_its_limit_is_an_alert_of_the_version(recorded: Recorded) -> None:
    def firing() -> set[tuple[str, str]]:
        alerts = httpx.get(f"{recorded.server.url}/api/v1/alerts", timeout=30).json()["data"]["alerts"]
        return {(one["labels"]["endpoint"], one["labels"]["version"]) for one in alerts if one["state"] == "firing"}

    both = {(endpoint, version) for endpoint in ("schema-6", "schema-3") for version in ("1.0.0", "1.1.0")}
    eventually(lambda: both <= firing(), 60)
    assert firing() == both
