"""Changing what an endpoint should run."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from apps.audit.selectors import events_of
from apps.kernel.errors import Conflict, InvalidInput, NotFound
from apps.kernel.models import OutboxEntry
from apps.targets.models import Endpoint
from apps.targets.selectors import plan_of
from apps.targets.services.lease import lease_take
from tests.fakes.registry import make_version
from tests.fakes.targets import make_site

pytestmark = pytest.mark.django_db


def test_a_new_endpoint_desires_its_stable_version_with_all_traffic() -> None:
    site = make_site()
    plan = plan_of(site.endpoint)
    assert plan is not None
    assert (plan.generation, plan.route.period, dict(plan.route.weights_bp)) == (1, 1, {"v1-0-0": 10_000})
    assert site.endpoint.stable_version_id == site.stable.pk


def test_a_new_variant_without_traffic_is_a_new_generation_of_the_same_period() -> None:
    site = make_site()
    candidate = make_version("late-arrival", "1.1.0")
    plan = site.desire({"v1-0-0": 10_000}, candidate)
    assert (plan.generation, plan.route.period) == (2, 1)


def test_new_weights_are_a_new_period() -> None:
    site = make_site()
    candidate = make_version("late-arrival", "1.1.0")
    plan = site.desire({"v1-0-0": 9_500, "v1-1-0": 500}, candidate)
    assert (plan.generation, plan.route.period) == (2, 2)
    assert plan_of(site.reload()) == plan


def test_desiring_what_is_desired_already_writes_nothing() -> None:
    site = make_site()
    before = site.reload().revision
    with CaptureQueriesContext(connection) as queries:
        plan = site.desire({"v1-0-0": 10_000})
    assert plan.generation == 1
    assert [query["sql"] for query in queries if not query["sql"].startswith(("SELECT", "SAVEPOINT", "RELEASE"))] == []
    assert site.reload().revision == before


def test_a_change_is_audited_with_its_reason_and_told_to_open_pages() -> None:
    site = make_site()
    OutboxEntry.objects.all().delete()
    site.desire({"v1-0-0": 9_000, "v1-1-0": 1_000}, make_version("late-arrival", "1.1.0"))
    event = events_of("endpoint", site.endpoint.pk)[0]
    assert (event.verb, event.actor_label, event.detail["reason"]) == ("endpoint.desired", "Alice", "a test wants it")
    names = list(OutboxEntry.objects.order_by("id").values_list("topic", "name"))
    assert names == [
        ("live", f"endpoint:{site.endpoint.pk}"),
        ("live", "fleet"),
        ("task", "targets.reconcile"),
    ]


def test_the_holder_of_the_lease_rings_no_doorbell_because_it_applies_itself() -> None:
    site = make_site()
    epoch = lease_take(site.endpoint.pk, holder="engine")
    OutboxEntry.objects.all().delete()
    site.desire({"v1-0-0": 9_000, "v1-1-0": 1_000}, make_version("late-arrival", "1.1.0"), epoch=epoch)
    assert not OutboxEntry.objects.filter(topic="task").exists()


def test_an_epoch_that_was_lost_changes_nothing() -> None:
    site = make_site()
    epoch = lease_take(site.endpoint.pk, holder="engine")
    lease_take(site.endpoint.pk, holder="bob", steal=True)
    with pytest.raises(Conflict) as refused:
        site.desire({"v1-0-0": 9_000, "v1-1-0": 1_000}, make_version("late-arrival", "1.1.0"), epoch=epoch)
    assert refused.value.code == "endpoint_moved"
    assert site.reload().generation == 1


def test_a_lost_epoch_is_refused_even_when_nothing_would_change() -> None:
    site = make_site()
    epoch = lease_take(site.endpoint.pk, holder="engine")
    lease_take(site.endpoint.pk, holder="bob", steal=True)
    with pytest.raises(Conflict):
        site.desire({"v1-0-0": 10_000}, epoch=epoch)


def test_whoever_read_before_another_wrote_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site()
    candidate = make_version("late-arrival", "1.1.0")
    from apps.targets.services import desire

    render = desire.plan_next

    def somebody_else_writes_in_between(endpoint: Endpoint, *rest: object, **named: object) -> object:
        Endpoint.objects.filter(pk=endpoint.pk).update(generation=7)
        return render(endpoint, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(desire, "plan_next", somebody_else_writes_in_between)
    with pytest.raises(Conflict) as refused:
        site.desire({"v1-0-0": 9_000, "v1-1-0": 1_000}, candidate)
    assert refused.value.code == "endpoint_moved"


def test_weights_that_do_not_sum_are_refused_by_name() -> None:
    site = make_site()
    with pytest.raises(InvalidInput) as refused:
        site.desire({"v1-0-0": 9_000})
    assert refused.value.fields[0].pointer == "/route/weights_bp"


def test_an_unknown_endpoint_is_not_found() -> None:
    site = make_site()
    site.endpoint.pk = "ep_missing"
    with pytest.raises(NotFound):
        site.desire({"v1-0-0": 10_000})


@pytest.mark.django_db(transaction=True)
def test_outside_a_transaction_it_refuses_to_work() -> None:
    from apps.targets.services.desire import endpoint_desire
    from tests.fakes.targets import ALICE

    with pytest.raises(RuntimeError):
        endpoint_desire(
            actor=ALICE, endpoint_id="ep_1", variants=[], weights_bp={}, epoch=None, reason="no transaction"
        )
    assert not transaction.get_connection().in_atomic_block
