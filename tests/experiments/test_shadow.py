"""Both versions on the same inputs, joined by request id."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from scipy import stats

from apps.experiments.domain.shadow import Pair, compare
from apps.experiments.services.shadow import shadow_compare
from apps.kernel.errors import Conflict
from apps.telemetry.services.records import labels_add, samples_add
from serving.samples import SampleQueue
from tests.experiments.lab import Lab
from tests.fakes.targets import ALICE


def _sampled(lab: Lab, variant: str, route: str, answers: dict[str, Any], country: str = "de") -> None:
    at = (lab.clock() - timedelta(seconds=60)).timestamp()
    rows = [
        {"request_id": request, "at": at, "route": route, "period": 1, "inputs": {"country": [country]},
         "outputs": [answer], "latency_s": 0.01, "status": 200}
        for request, answer in answers.items()
    ]  # fmt: skip
    accepted, rejected = samples_add({"endpoint": lab.site.endpoint.name, "variant": variant, "samples": rows})
    assert (accepted, rejected) == (len(rows), [])


def test_only_requests_that_both_answered_are_compared_and_mcnemar_is_the_binomials(lab: Lab) -> None:
    first = {f"r{i}": "cat" for i in range(60)}
    second = {f"r{i}": "dog" if i < 15 else "cat" for i in range(50)}
    _sampled(lab, "v1-0-0", "weighted", first)
    _sampled(lab, "v1-1-0", "mirrored", second)
    _sampled(lab, "v1-1-0", "forced", {"r55": "dog"})  # somebody's try is no shadow
    at = lab.clock().timestamp()
    truth = [{"request_id": f"r{i}", "value": "dog" if i < 12 else "cat", "at": at} for i in range(40)]
    labels_add({"endpoint": lab.site.endpoint.name, "labels": truth})
    found = shadow_compare(actor=ALICE, endpoint_id=lab.site.endpoint.pk, second="v1-1-0", segment="country").result
    assert (found["pairs"], found["labelled"], found["agreement"]) == (50, 40, 35 / 50)
    assert found["flips"] == [{"from": "cat", "to": "dog", "count": 15}]
    right = found["right"]
    assert (right["both"], right["only_first"], right["only_second"], right["neither"]) == (25, 3, 12, 0)
    assert right["test"]["p_value"] == pytest.approx(stats.binomtest(3, 15).pvalue, rel=1e-9)
    assert right["test"]["estimate"] == pytest.approx(9 / 40)
    assert found["segments"][0]["segment"] == "de"


def test_scores_are_compared_by_their_differences() -> None:
    pairs = [Pair(i / 10, i / 10 + 0.05 * (i % 3), None, "de" if i % 2 else "fr") for i in range(60)]
    found = compare(pairs)
    theirs = stats.ttest_rel([p.second for p in pairs], [p.first for p in pairs])
    assert found["kind"] == "score"
    assert found["scores"]["mean"]["p_value"] == pytest.approx(theirs.pvalue, rel=1e-9)
    assert found["scores"]["quantiles"]["0.5"] == pytest.approx(0.05)
    assert {one["segment"]: one["pairs"] for one in found["segments"]} == {"de": 30, "fr": 30}


def test_nothing_to_compare_says_so_and_is_no_verdict(lab: Lab) -> None:
    with pytest.raises(Conflict) as refused:
        shadow_compare(actor=ALICE, endpoint_id=lab.site.endpoint.pk)
    assert refused.value.code == "no_shadow"
    empty = shadow_compare(actor=ALICE, endpoint_id=lab.site.endpoint.pk, second="v1-1-0").result
    assert (empty["pairs"], empty["agreement"]) == (0, None)
    assert "undefined" in empty["right"]["test"]


def test_both_versions_sample_the_same_requests() -> None:
    one, other = SampleQueue(0.05), SampleQueue(0.05)
    ids = [f"request-{i}" for i in range(20_000)]
    chosen = [request for request in ids if one.wants(request)]
    assert chosen == [request for request in ids if other.wants(request)]
    assert stats.binomtest(len(chosen), len(ids), 0.05).pvalue > 0.001
    assert not SampleQueue(0.0).wants("a")
    assert SampleQueue(1.0).wants("a")
