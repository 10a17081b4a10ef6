"""The page of two versions on the same inputs, and what may be taken along from it."""

from __future__ import annotations

import csv
import io
import json

import pytest
from django.test import Client

from apps.experiments.domain.shadow import labels_plan
from apps.telemetry.services.records import labels_add
from tests.cast import make_user
from tests.experiments.lab import Lab
from tests.experiments.test_shadow import _sampled


@pytest.fixture
def alice(lab: Lab) -> Client:
    client = Client()
    client.force_login(make_user("alice"))
    return client


@pytest.fixture
def pairs(lab: Lab) -> str:
    """Sixty requests that both versions answered; the address of their comparison."""
    _sampled(lab, "v1-0-0", "weighted", {f"r{i}": "cat" for i in range(60)})
    _sampled(lab, "v1-1-0", "mirrored", {f"r{i}": "dog" if i < 15 else "cat" for i in range(60)})
    truth = [
        {"request_id": f"r{i}", "value": "dog" if i < 12 else "cat", "at": lab.clock().timestamp()} for i in range(50)
    ]
    labels_add({"endpoint": lab.site.endpoint.name, "labels": truth})
    return f"endpoint={lab.site.endpoint.name}&first=v1-0-0&second=v1-1-0&segment=country&range=7d"


def test_the_page_says_who_flips_what_and_who_is_right(alice: Client, pairs: str) -> None:
    text = alice.get(f"/experiments/shadow/?{pairs}").content.decode()
    assert "of 60 answers" in text
    assert "75 %" in text  # agreement
    assert "right more often" in text
    assert "cat" in text
    assert "dog" in text
    assert "By country" in text
    assert "an A/B test takes" in text


def test_without_an_endpoint_it_asks_and_without_a_shadow_it_says_so(lab: Lab, alice: Client) -> None:
    assert alice.get("/experiments/shadow/").status_code == 200
    name = lab.site.endpoint.name
    assert "mirror its traffic first" in alice.get(f"/experiments/shadow/?endpoint={name}").content.decode()
    same = alice.get(f"/experiments/shadow/?endpoint={name}&first=v1-0-0&second=v1-0-0").content.decode()
    assert "Choose two versions" in same
    nothing = alice.get(f"/experiments/shadow/?endpoint={name}&first=v1-0-0&second=v1-1-0").content.decode()
    assert "No request of this range was sampled in both" in nothing


def test_labels_are_planned_from_the_disagreement_that_was_seen(alice: Client, pairs: str) -> None:
    text = alice.get(f"/experiments/shadow/?{pairs}&accuracy=80&difference=5").content.decode()
    plan = labels_plan(0.8, 0.05, 0.25)
    assert f"{plan['labels']:,} labelled inputs" in text
    assert f"{plan['ab_units']:,}" in text
    impossible = alice.get(f"/experiments/shadow/?{pairs}&accuracy=80&difference=30").content.decode()
    assert "must lie strictly between 0 and 1" in impossible


def test_the_published_example_of_paired_planning() -> None:
    plan = labels_plan(0.92, 0.01, 0.03)
    assert (plan["labels"], plan["ab_units"]) == (2353, 21_780)
    assert 9 < plan["times_fewer"] < 9.5


def test_json_and_csv_hold_the_same(alice: Client, pairs: str) -> None:
    found = json.loads(alice.get(f"/experiments/shadow/export/?{pairs}&as=json").content)
    assert (found["first"], found["second"], found["result"]["pairs"]) == ("v1-0-0", "v1-1-0", 60)
    rows = list(csv.DictReader(io.StringIO(alice.get(f"/experiments/shadow/export/?{pairs}&as=csv").content.decode())))
    assert [row["segment"] for row in rows] == ["", "de"]
    assert float(rows[0]["agreement"]) == found["result"]["agreement"]
    assert alice.get("/experiments/shadow/export/").status_code == 422
