"""Who holds an endpoint, when several want it at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from apps.targets.models import Endpoint
from apps.targets.services.lease import lease_release, lease_take
from tests.fakes.targets import make_site

pytestmark = pytest.mark.django_db


def expire(endpoint_id: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE targets_endpoint SET lease_until = clock_timestamp() WHERE id = %s", [endpoint_id])


def test_a_free_lease_is_taken_with_a_higher_epoch() -> None:
    endpoint = make_site().endpoint
    assert lease_take(endpoint.pk, holder="alice") == endpoint.lease_epoch + 1


def test_the_live_holder_asks_again_and_keeps_its_epoch_for_longer() -> None:
    endpoint = make_site().endpoint
    first = lease_take(endpoint.pk, holder="alice", seconds=5)
    until = Endpoint.objects.get(pk=endpoint.pk).lease_until
    assert lease_take(endpoint.pk, holder="alice", seconds=60) == first
    now_until = Endpoint.objects.get(pk=endpoint.pk).lease_until
    assert until is not None
    assert now_until is not None
    assert now_until > until


def test_a_live_lease_is_refused_to_another_holder() -> None:
    endpoint = make_site().endpoint
    lease_take(endpoint.pk, holder="alice")
    assert lease_take(endpoint.pk, holder="bob") is None


def test_an_expired_lease_changes_hands_and_epoch() -> None:
    endpoint = make_site().endpoint
    first = lease_take(endpoint.pk, holder="alice")
    expire(endpoint.pk)
    assert first is not None
    assert lease_take(endpoint.pk, holder="bob") == first + 1


def test_even_the_same_holder_gets_a_new_epoch_after_its_lease_ran_out() -> None:
    endpoint = make_site().endpoint
    first = lease_take(endpoint.pk, holder="alice")
    expire(endpoint.pk)
    assert first is not None
    assert lease_take(endpoint.pk, holder="alice") == first + 1


def test_stealing_takes_a_live_lease_and_always_raises_the_epoch() -> None:
    endpoint = make_site().endpoint
    first = lease_take(endpoint.pk, holder="alice", seconds=60)
    assert first is not None
    assert lease_take(endpoint.pk, holder="bob", steal=True) == first + 1
    assert lease_take(endpoint.pk, holder="bob", steal=True) == first + 2
    assert lease_take(endpoint.pk, holder="alice") is None


def test_who_lost_the_lease_cannot_give_back_the_one_of_its_successor() -> None:
    endpoint = make_site().endpoint
    first = lease_take(endpoint.pk, holder="alice")
    lease_take(endpoint.pk, holder="bob", steal=True)
    assert first is not None
    assert not lease_release(endpoint.pk, holder="alice", epoch=first)
    assert lease_take(endpoint.pk, holder="charlie") is None


def test_a_lease_given_back_is_free_at_once_and_its_epoch_is_not_used_again() -> None:
    endpoint = make_site().endpoint
    first = lease_take(endpoint.pk, holder="alice", seconds=60)
    assert first is not None
    assert lease_release(endpoint.pk, holder="alice", epoch=first)
    assert lease_take(endpoint.pk, holder="bob") == first + 1


def test_nobody_holds_an_endpoint_that_is_not_there() -> None:
    assert lease_take("ep_missing", holder="alice") is None


@pytest.mark.django_db(transaction=True)
def test_of_eight_workers_at_once_exactly_one_wins() -> None:
    endpoint_id = make_site().endpoint.pk
    gate = threading.Barrier(8)

    def race(name: int) -> int | None:
        try:
            gate.wait(30)
            return lease_take(endpoint_id, holder=f"worker-{name}", seconds=60)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            epochs = [epoch for epoch in pool.map(race, range(8)) if epoch is not None]
            assert len(epochs) == 1
            expire(endpoint_id)
