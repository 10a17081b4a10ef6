"""The first account: by a one-time link and no other way."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth import authenticate
from django.core.management import call_command
from django.db import connection, connections, transaction

from apps.accounts.domain.roles import Role
from apps.accounts.models import SetupToken, User
from apps.accounts.services.access import roles_of
from apps.accounts.services.people import account_create
from apps.accounts.services.setup import (
    VALID_FOR,
    first_person_create,
    is_set_up,
    setup_token_is_valid,
    setup_token_make,
)
from apps.audit.models import Event
from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now, set_clock
from apps.kernel.errors import Conflict, InvalidInput, NotFound
from tests.cast import PASSWORD, make_user

pytestmark = pytest.mark.django_db


def link() -> str:
    out = StringIO()
    call_command("setup_link", stdout=out)
    return out.getvalue().strip()


def test_the_first_person_can_run_the_product_alone() -> None:
    token = setup_token_make()
    user = first_person_create(token=token, username="alice", password=PASSWORD, request_id="r-1")
    assert roles_of(user) == {Role.ENGINEER, Role.OPERATOR, Role.ADMIN}
    assert not user.is_superuser
    assert not user.is_staff
    assert authenticate(username="alice", password=PASSWORD) == user
    event = Event.objects.get(verb="user.created")
    assert (event.actor_kind, event.subject_label, event.request_id) == ("setup", "alice", "r-1")
    assert PASSWORD not in str(event.detail)


def test_a_token_works_once() -> None:
    token = setup_token_make()
    assert setup_token_is_valid(token)
    first_person_create(token=token, username="alice", password=PASSWORD)
    assert not setup_token_is_valid(token)
    with pytest.raises(NotFound):
        first_person_create(token=token, username="mallory", password=PASSWORD)
    assert User.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_people_who_click_at_the_same_time_one_becomes_the_first() -> None:
    token, outcomes = setup_token_make(), []

    def click_too() -> None:
        try:
            outcomes.append(first_person_create(token=token, username="mallory", password=PASSWORD).username)
        except NotFound as refused:
            outcomes.append(refused.code)
        finally:
            connections.close_all()

    second = threading.Thread(target=click_too)
    with transaction.atomic():
        first_person_create(token=token, username="alice", password=PASSWORD)
        second.start()
        # Not committed yet: the second click must be waiting for the first, not working beside it.
        until = time.monotonic() + 30
        while second.is_alive() and not _somebody_waits() and time.monotonic() < until:
            time.sleep(0.02)
    second.join(60)
    assert outcomes == ["setup_token_invalid"]
    assert [user.username for user in User.objects.all()] == ["alice"]


def _somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # within a transaction the view would never change
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(cursor.fetchone()[0])


def test_an_account_that_exists_ends_the_setup() -> None:
    token = setup_token_make()
    make_user("ada")
    assert is_set_up()
    assert not setup_token_is_valid(token)
    with pytest.raises(NotFound):
        first_person_create(token=token, username="mallory", password=PASSWORD)
    with pytest.raises(Conflict):
        setup_token_make()


def test_only_the_newest_link_works() -> None:
    old, new = setup_token_make(), setup_token_make()
    assert (setup_token_is_valid(old), setup_token_is_valid(new)) == (False, True)


def test_a_link_grows_old() -> None:
    token = setup_token_make()
    late = now() + VALID_FOR + timedelta(seconds=1)
    with set_clock(lambda: late):
        assert not setup_token_is_valid(token)


def test_the_database_does_not_hold_the_token() -> None:
    token = setup_token_make()
    assert token not in str(SetupToken.objects.values_list().get())


@pytest.mark.parametrize(
    ("username", "password", "pointer"),
    [
        ("alice", "short", "/password"),
        ("alice", "password123", "/password"),
        ("", PASSWORD, "/username"),
        ("a b", PASSWORD, "/username"),
        ("x" * 151, PASSWORD, "/username"),
    ],
)
def test_bad_input_names_the_field_and_does_not_spend_the_token(username: str, password: str, pointer: str) -> None:
    token = setup_token_make()
    with pytest.raises(InvalidInput) as refused:
        first_person_create(token=token, username=username, password=password)
    assert {field.pointer for field in refused.value.fields} == {pointer}
    assert setup_token_is_valid(token)
    assert not User.objects.exists()


def test_a_taken_name_is_refused() -> None:
    make_user("bob")
    with pytest.raises(Conflict) as refused:
        account_create(actor=SYSTEM, username="bob", password=PASSWORD, roles=frozenset({Role.VIEWER}))
    assert refused.value.code == "username_taken"
    assert not Event.objects.exists()


def test_the_command_prints_a_link_that_works_and_later_only_the_address() -> None:
    base, _, token = link().rpartition("/setup/")
    assert base.startswith("http")
    assert setup_token_is_valid(token)
    make_user("ada")
    assert link() == base
