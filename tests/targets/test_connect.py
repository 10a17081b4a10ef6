"""Targets, endpoints and freeze windows as people make and lift them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from apps.audit.selectors import events_of
from apps.kernel.errors import Conflict, InvalidInput, NotFound, PolicyRefused
from apps.kernel.models import OutboxEntry
from apps.targets.domain.driver import Support
from apps.targets.models import Endpoint
from apps.targets.selectors import capabilities_of, endpoint_get, endpoint_list, freeze_active, target_get
from apps.targets.services.connect import endpoint_create, endpoint_remove, target_create, target_probe
from apps.targets.services.freeze import freeze_create, freeze_remove
from apps.targets.services.reconcile import endpoint_reconcile
from tests.fakes.registry import make_version
from tests.fakes.targets import ALICE, FakeSite, make_site

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def test_a_new_target_is_audited_and_will_be_probed() -> None:
    target = target_create(actor=ALICE, name="lab", kind="fake")
    assert events_of("target", target.pk)[0].verb == "target.created"
    assert OutboxEntry.objects.filter(topic="task", name="targets.probe").exists()


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": "Lab 1"}, "/name"),
        ({"kind": "mainframe"}, "/kind"),
        ({"environment": "moon"}, "/environment"),
        ({"no_traffic_policy": "panic"}, "/no_traffic_policy"),
        ({"kind": "local", "connection": {"url": "nonsense"}}, "/connection/url"),
    ],
)
def test_an_impossible_target_is_refused_by_field(changes: dict[str, object], pointer: str) -> None:
    wanted: dict[str, object] = {"name": "lab", "kind": "fake", **changes}
    with pytest.raises(InvalidInput) as refused:
        target_create(actor=ALICE, **wanted)  # type: ignore[arg-type]
    assert refused.value.fields[0].pointer == pointer


def test_two_targets_cannot_have_one_name() -> None:
    target_create(actor=ALICE, name="lab", kind="fake")
    with pytest.raises(Conflict):
        target_create(actor=ALICE, name="lab", kind="fake")


def test_a_probe_stores_what_the_target_can_do_and_is_audited_once() -> None:
    site = make_site()
    assert capabilities_of(site.target).weights is Support.NO
    for _ in range(2):
        assert target_probe(target_id=site.target.pk) is not None
    target = target_get(site.target.pk)
    assert (capabilities_of(target).weights, target.probe_error) == (Support.EXACT, "")
    assert [event.verb for event in events_of("target", target.pk)] == ["target.updated", "target.created"]


def test_a_failed_probe_is_a_sentence_on_the_target() -> None:
    site = make_site()
    site.world.faults.is_unreachable = True
    assert target_probe(target_id=site.target.pk) is None
    assert "told not to answer" in target_get(site.target.name).probe_error


def create(site: FakeSite, name: str, **changes: str) -> Endpoint:
    wanted = {"target_id": site.target.pk, "model_id": site.stable.model_id, "version_id": site.stable.pk, **changes}
    return endpoint_create(actor=ALICE, name=name, **wanted)


def test_a_version_that_is_not_ready_is_not_served() -> None:
    site = make_site()
    failed = make_version("late-arrival", "1.1.0", status="failed_registration")
    with pytest.raises(PolicyRefused) as refused:
        create(site, "second", version_id=failed.pk)
    assert refused.value.code == "version_not_ready"


def test_a_version_whose_files_are_gone_is_not_served_on_a_local_target() -> None:
    site = make_site()
    local = target_create(actor=ALICE, name="here", kind="local")
    with pytest.raises(PolicyRefused) as refused:
        create(site, "second", target_id=local.pk)
    assert refused.value.code == "artifact_gone"


def test_a_version_of_another_model_is_refused() -> None:
    site = make_site()
    with pytest.raises(InvalidInput) as refused:
        create(site, "second", version_id=make_version("other", "1.0.0").pk)
    assert refused.value.fields[0].pointer == "/version_id"


def test_what_is_unknown_is_not_found() -> None:
    site = make_site()
    with pytest.raises(NotFound):
        create(site, "second", version_id="mv_missing")
    with pytest.raises(NotFound):
        create(site, "second", target_id="tg_missing")
    with pytest.raises(NotFound):
        endpoint_get("missing")


def test_a_taken_name_is_refused() -> None:
    site = make_site()
    with pytest.raises(Conflict) as refused:
        create(site, "late-arrival")
    assert refused.value.code == "name_taken"


def test_a_removed_endpoint_is_gone_for_readers_and_fenced_for_writers() -> None:
    site = make_site()
    before = site.endpoint.lease_epoch
    endpoint_remove(actor=ALICE, endpoint_id=site.endpoint.name, reason="moved away")
    with pytest.raises(NotFound):
        endpoint_get("late-arrival")
    assert list(endpoint_list()) == []
    assert site.reload().lease_epoch == before + 1
    with pytest.raises(NotFound):
        endpoint_remove(actor=ALICE, endpoint_id=site.endpoint.pk, reason="again")


def test_a_name_that_comes_back_goes_on_counting_so_that_the_target_accepts_it() -> None:
    site = make_site()
    assert endpoint_reconcile(site.endpoint.pk, holder="alice")
    endpoint_remove(actor=ALICE, endpoint_id=site.endpoint.pk, reason="moved away")
    assert endpoint_reconcile(site.endpoint.pk, holder="alice")
    again = create(site, "late-arrival")
    assert (again.pk, again.generation) == (site.endpoint.pk, 3)
    assert endpoint_reconcile(again.pk, holder="alice")
    assert site.world.applied[-1][1].generation == 3


def test_reading_the_fleet_takes_one_query_whatever_its_size(django_assert_num_queries: object) -> None:
    for number in range(3):
        make_site(name=f"endpoint-{number}")
    with django_assert_num_queries(1):  # type: ignore[operator]
        names = [(each.name, each.target.name, each.model.name) for each in endpoint_list(environment="development")]
    assert len(names) == 3


def freeze(start: int, end: int, **scope: str) -> str:
    window = freeze_create(
        actor=ALICE,
        starts_at=NOON + timedelta(hours=start),
        ends_at=NOON + timedelta(hours=end),
        reason="quarter end",
        **scope,
    )
    return window.pk


def test_a_freeze_holds_for_its_endpoint_its_environment_or_everything() -> None:
    site = make_site(environment="production")
    other = make_site(name="other")
    own = freeze(0, 1, endpoint_id=site.endpoint.pk)
    production = freeze(0, 2, environment="production")
    everything = freeze(0, 3)

    def holding(endpoint: Endpoint, hours: float) -> str | None:
        window = freeze_active(endpoint, NOON + timedelta(hours=hours))
        return window.pk if window else None

    assert holding(site.endpoint, 0.5) == everything
    freeze_remove(actor=ALICE, freeze_id=everything, reason="too wide")
    assert holding(site.endpoint, 0.5) == production
    assert holding(other.endpoint, 0.5) is None
    freeze_remove(actor=ALICE, freeze_id=production, reason="too wide")
    assert holding(site.endpoint, 0.5) == own
    assert holding(site.endpoint, 1) is None
    assert [event.verb for event in events_of("freeze", production)] == ["freeze.removed", "freeze.created"]


def test_a_freeze_that_ends_before_it_starts_or_says_no_reason_is_refused() -> None:
    with pytest.raises(InvalidInput):
        freeze(1, 0)
    with pytest.raises(InvalidInput) as refused:
        freeze_create(actor=ALICE, starts_at=NOON, ends_at=NOON + timedelta(hours=1), reason=" ")
    assert refused.value.fields[0].pointer == "/reason"
    with pytest.raises(NotFound):
        freeze_remove(actor=ALICE, freeze_id="fw_missing", reason="typo")
