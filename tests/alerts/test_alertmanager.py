"""A Prometheus Alertmanager reports: the documented payload becomes alerts, what is malformed is refused by itself."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from django.test import Client

from apps.accounts.domain.roles import Role
from apps.accounts.models import Team
from apps.accounts.services.access import actor_of
from apps.accounts.services.teams import team_create
from apps.alerts.domain.incidents import IncidentState
from apps.alerts.models import Incident, IncidentChange, Notice, Receiver
from apps.alerts.services import places
from apps.alerts.services.channels import channel_create
from apps.alerts.services.receivers import receiver_create, receiver_rotate
from apps.audit.models import Event
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.errors import Forbidden
from tests.alerts.conftest import Receiver as Server
from tests.cast import make_user

pytestmark = pytest.mark.django_db

# The shape that the documentation of Prometheus gives for webhook_config, with the fields that a real one fills.
PAYLOAD: dict[str, Any] = {
    "version": "4",
    "groupKey": '{}:{alertname="HighRequestLatency"}',
    "truncatedAlerts": 0,
    "status": "firing",
    "receiver": "pilothouse",
    "groupLabels": {"alertname": "HighRequestLatency"},
    "commonLabels": {"alertname": "HighRequestLatency", "severity": "page"},
    "commonAnnotations": {"summary": "High request latency"},
    "externalURL": "http://alertmanager:9093",
    "alerts": [
        {
            "status": "firing",
            "labels": {
                "alertname": "HighRequestLatency", "severity": "page", "job": "myjob", "endpoint": "fraud",
                "environment": "prod",
            },
            "annotations": {
                "summary": "High request latency", "description": "p95 is 0.81 s, more than 0.5 s.",
                "runbook_url": "https://runbooks.example.com/latency",
            },
            "startsAt": "2026-03-01T02:58:12.345Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus:9090/graph?g0.expr=x",
            "fingerprint": "b6a4a1f5c3a2d1e0",
        }
    ],
}  # fmt: skip


def payload(*alerts: Any) -> dict[str, Any]:
    return {**PAYLOAD, "alerts": list(alerts)}


def alert(**over: Any) -> dict[str, Any]:
    return {**copy.deepcopy(PAYLOAD["alerts"][0]), **over}


@pytest.fixture
def of_acme(acme: Team, ada: Actor) -> tuple[Receiver, str]:
    return receiver_create(actor=ada, name="prometheus of acme")


def post(receiver: Receiver, token: str, body: Any) -> Any:
    return Client().post(
        f"/api/v1/alert-receivers/{receiver.pk}/alertmanager", json.dumps(body), content_type="application/json",
        headers={"Authorization": f"Bearer {token}"},
    )  # fmt: skip


def test_the_documented_payload_becomes_an_alert_and_its_end_the_end(acme: Team, of_acme: tuple[Receiver, str]) -> None:
    assert post(*of_acme, PAYLOAD).json() == {"accepted": 1, "rejected": []}
    row = Incident.objects.get()
    assert (row.severity, row.team, row.environment, row.subject_name) == ("page", acme, "production", "fraud")
    assert row.title == "HighRequestLatency: High request latency"
    assert row.summary == "p95 is 0.81 s, more than 0.5 s."
    assert row.runbook_url == "https://runbooks.example.com/latency"
    assert row.link == "http://prometheus:9090/graph?g0.expr=x"
    post(*of_acme, PAYLOAD)
    assert IncidentChange.objects.count() == 1, "Alertmanager repeats itself"
    assert post(*of_acme, payload(alert(status="resolved"))).json()["accepted"] == 1
    row.refresh_from_db()
    assert row.state == IncidentState.RESOLVED


@pytest.mark.parametrize(
    ("starts_at", "told"),
    [
        ("2026-03-01T04:58:12.345+02:00", {"wrong_there_since": "2026-03-01 02:58 UTC"}),
        ("0001-01-01T00:00:00Z", {}),
        ("9999-12-31T23:59:59-23:59", {}),
        ("yesterday", {}),
        (None, {}),
    ],
)
def test_since_when_it_is_wrong_there_is_kept_and_never_a_reason_to_refuse(
    of_acme: tuple[Receiver, str], starts_at: Any, told: dict[str, str]
) -> None:
    assert post(*of_acme, payload(alert(startsAt=starts_at))).json() == {"accepted": 1, "rejected": []}
    facts = Incident.objects.get().facts
    assert {name: facts[name] for name in facts if name == "wrong_there_since"} == told


def test_what_is_malformed_is_refused_by_itself(of_acme: tuple[Receiver, str]) -> None:
    bad = [
        7,
        alert(status="pending"),
        alert(fingerprint=""),
        alert(labels={"severity": "page"}),
        alert(labels={"alertname": "x", "severity": 3}),
    ]
    answer = post(*of_acme, payload(*bad, alert())).json()
    assert answer["accepted"] == 1
    assert [(one["index"], one["code"]) for one in answer["rejected"]] == [
        (0, "not_an_object"), (1, "status_unknown"), (2, "fingerprint_missing"), (3, "alertname_missing"),
        (4, "bad_labels"),
    ]  # fmt: skip
    receiver = Receiver.objects.get()
    assert (receiver.accepted, receiver.rejected) == (1, 5)
    assert receiver.last_rejection.startswith("not_an_object")
    assert receiver.seen_at is not None


@pytest.mark.parametrize(("label", "value"), [("environment", "uat"), ("stage", "UAT-2"), ("stage", "p" * 80)])
def test_an_environment_that_is_none_of_ours_costs_nobody_their_page(
    acme: Team, ada: Actor, receiver: Server, label: str, value: str
) -> None:
    channel_create(actor=ada, name="hook", kind="webhook", address=receiver.url)
    opened = receiver_create(actor=ada, name="of the bank", labels={"environment": label})
    many = {f"a{number:02}": "x" for number in range(20)}
    labels = {**many, "alertname": "Down", "severity": "page", label: value}
    assert post(*opened, payload(alert(labels=labels))).json() == {"accepted": 1, "rejected": []}
    row = Incident.objects.get()
    assert (row.severity, row.environment, row.facts[label]) == ("page", "", value)
    assert Notice.objects.get().subject.startswith("[PAGE] Down: High request latency")
    assert Notice.objects.get().subject.endswith(f" ({value[:40]})"), "beside twenty other labels"
    client = Client()
    client.force_login(make_user("olga-of-acme", frozenset({Role.OPERATOR}), acme))
    assert f"({value[:40]})" in client.get(f"/alerts/{row.pk}/").content.decode()
    assert post(*opened, payload(alert(labels=labels, status="resolved"))).json()["accepted"] == 1
    row.refresh_from_db()
    assert row.state == IncidentState.RESOLVED


@pytest.mark.parametrize("body", [[], {"version": "3", "alerts": []}, {"version": "4"}, {"version": "4", "alerts": {}}])
def test_what_is_no_message_of_version_4_is_refused_as_a_whole(of_acme: tuple[Receiver, str], body: Any) -> None:
    answer = post(*of_acme, body)
    assert answer.status_code == 422
    assert not Incident.objects.exists()


def test_labels_from_outside_are_text_and_never_a_link_that_runs(of_acme: tuple[Receiver, str]) -> None:
    nasty = {"alertname": "x<script>", "severity": "warning", "endpoint": "fraud"}
    notes = {"summary": "a\nb", "runbook_url": "javascript:alert(1)"}
    given = alert(labels=nasty, annotations=notes, generatorURL="data:text/html,x")
    assert post(*of_acme, payload(given)).json()["rejected"] == []
    row = Incident.objects.get()
    assert (row.severity, row.runbook_url, row.link) == ("ticket", "", "")
    assert "\n" not in row.title


def test_only_its_own_token_opens_a_receiver(ada: Actor, of_acme: tuple[Receiver, str]) -> None:
    receiver, token = of_acme
    other, other_token = receiver_create(actor=ada, name="another")
    for wrong in ("", "plr_x", other_token, token[:-1]):
        assert post(receiver, wrong, PAYLOAD).status_code == 401
    _, fresh = receiver_rotate(actor=ada, receiver_id=receiver.pk)
    assert post(receiver, token, PAYLOAD).status_code == 401
    assert post(receiver, fresh, PAYLOAD).status_code == 200
    stored = json.dumps(list(Receiver.objects.values()), default=str)
    told = json.dumps(list(Event.objects.values("detail")), default=str)
    assert fresh not in stored + told
    assert other.pk != receiver.pk


def test_a_token_of_one_team_pages_nobody_of_another(
    of_acme: tuple[Receiver, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    globex = team_create(actor=SYSTEM, slug="globex")
    monkeypatch.setitem(
        places._LOOKUPS, "endpoint", lambda name: (globex.pk, "production") if name == "fraud" else None
    )
    answer = post(*of_acme, PAYLOAD).json()
    assert [one["code"] for one in answer["rejected"]] == ["endpoint_of_another_team"]


def test_one_for_the_whole_house_finds_the_team_by_label_or_endpoint(
    acme: Team, ada: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(places._LOOKUPS, "endpoint", lambda name: (acme.pk, "staging") if name == "fraud" else None)
    with pytest.raises(Forbidden):
        receiver_create(actor=ada, name="house", is_house_wide=True)
    boss = actor_of(make_user("ada"))
    opened = receiver_create(
        actor=boss, name="house", is_house_wide=True, labels={"team": "owner", "severity": "prio"}, page_values=["P1"]
    )
    by_label = {"alertname": "A", "owner": "acme", "prio": "p1"}
    unknown = {"alertname": "B", "owner": "nobody"}
    answer = post(
        *opened,
        payload(alert(), alert(labels=by_label, fingerprint="f2"), alert(labels=unknown, fingerprint="f3")),
    ).json()
    assert [one["code"] for one in answer["rejected"]] == ["team_unknown"]
    labelled, by_endpoint = Incident.objects.order_by("environment")  # ids follow keys, which hold a random part
    assert (by_endpoint.team, by_endpoint.environment, by_endpoint.severity) == (acme, "staging", "ticket")
    assert (labelled.team, labelled.severity) == (acme, "page")
