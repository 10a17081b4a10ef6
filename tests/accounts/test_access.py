"""Who may do what, and the sentence for who may not."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest

from apps.accounts.domain.roles import ALL_ACTIONS, Role, who_can
from apps.accounts.services.access import access_allows, access_require, actor_of
from apps.accounts.services.sign_in import FAILURES, WITHIN, sign_in_check
from apps.audit.models import Event
from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now, set_clock
from apps.kernel.errors import Forbidden
from tests.cast import PASSWORD, make_actor, make_user

pytestmark = pytest.mark.django_db


def test_the_cast_may_what_their_roles_say() -> None:
    alice, bob, olga, ada = (make_actor(name) for name in ("alice", "bob", "olga", "ada"))
    assert access_allows(alice, "rollout.start")
    assert not access_allows(bob, "rollout.abort")
    assert access_allows(olga, "rollout.abort")
    assert not access_allows(olga, "rollout.promote")
    assert access_allows(ada, "target.write")
    assert not access_allows(ada, "rollout.start")


def test_nobody_without_a_role_or_an_account_may_anything() -> None:
    for actor in (make_actor("mallory"), actor_of(AnonymousUser())):
        assert not any(access_allows(actor, action) for action in ALL_ACTIONS)


def test_the_system_may_everything() -> None:
    assert all(access_allows(SYSTEM, action) for action in ALL_ACTIONS)


def test_a_switched_off_account_may_nothing() -> None:
    user = make_user("alice")
    user.is_active = False
    assert actor_of(user).actions == frozenset()


def test_neither_staff_nor_superuser_means_anything() -> None:
    user = make_user("mallory")
    user.is_staff = user.is_superuser = True
    user.save()
    assert actor_of(user).actions == frozenset()


def test_a_refusal_names_every_role_that_can() -> None:
    bob = make_actor("bob")
    with pytest.raises(Forbidden) as refused:
        access_require(bob, "endpoint.write")
    assert refused.value.extra["roles"] == [role.value for role in who_can("endpoint.write")] == ["engineer", "admin"]
    assert "engineer or admin" in refused.value.detail
    assert "bob" in refused.value.detail


def test_an_action_that_no_table_knows_is_a_mistake_in_the_program() -> None:
    with pytest.raises(ValueError, match="undeclared action"):
        access_require(SYSTEM, "world.destroy")


def test_every_action_can_be_done_by_some_role() -> None:
    assert all(who_can(action) for action in ALL_ACTIONS)
    assert {role for action in ALL_ACTIONS for role in who_can(action)} == set(Role)


def sign_in(username: str, password: str) -> str:
    try:
        return sign_in_check(request=HttpRequest(), username=username, password=password).username
    except Forbidden as refused:
        return refused.code


def test_a_failed_sign_in_is_audited_and_does_not_say_what_was_wrong() -> None:
    make_user("alice")
    assert sign_in("alice", PASSWORD) == "alice"
    assert sign_in("alice", "wrong") == sign_in("nobody", PASSWORD) == "sign_in_failed"
    assert list(Event.objects.order_by("seq").values_list("verb", "actor_label")) == [
        ("user.sign_in_failed", "alice"),
        ("user.sign_in_failed", "unknown account"),
    ]


def test_what_was_typed_as_a_name_is_written_nowhere() -> None:
    sign_in("hunter2-my-password", "x")
    assert "hunter2" not in str(list(Event.objects.values()))


def test_guessing_is_stopped_for_a_while_even_with_the_right_password() -> None:
    make_user("alice")
    for _ in range(FAILURES):
        assert sign_in("alice", "wrong") == "sign_in_failed"
    assert sign_in("alice", PASSWORD) == "too_many_attempts"
    later = now() + WITHIN
    with set_clock(lambda: later):
        assert sign_in("alice", PASSWORD) == "alice"


def test_a_flood_of_unknown_names_does_not_flood_the_log_and_looks_no_different() -> None:
    assert {sign_in(f"guess-{n}", "x") for n in range(FAILURES + 5)} == {"sign_in_failed"}
    assert Event.objects.count() == FAILURES


def test_a_switched_off_account_cannot_sign_in() -> None:
    user = make_user("alice")
    user.is_active = False
    user.save()
    assert sign_in("alice", PASSWORD) == "sign_in_failed"
