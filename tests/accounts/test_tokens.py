"""API keys: shown once, limited to their maker's roles, gone when revoked."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.accounts.domain.keys import make_key, parse_key
from apps.accounts.domain.roles import Role, actions_of
from apps.accounts.models import ApiToken, Membership
from apps.accounts.services.access import actor_of, actor_of_token
from apps.accounts.services.tokens import TokenRefused, token_make, token_revoke, token_verify
from apps.audit.models import Event
from apps.kernel.clock import now, set_clock
from apps.kernel.errors import Forbidden, InvalidInput, NotFound
from tests.cast import make_user

pytestmark = pytest.mark.django_db


def make(name: str = "alice", roles: frozenset[Role] = frozenset({Role.ENGINEER}), **how: Any) -> tuple[ApiToken, str]:
    user = make_user(name)
    return token_make(actor=actor_of(user), user=user, label="nightly job", roles=roles, **how)


def test_a_key_is_what_the_format_says_and_can_be_told_offline() -> None:
    key = make_key()
    assert len(key.text) == 4 + 12 + 1 + 32 + 6
    assert parse_key(key.text) == key
    assert key.secret not in repr(key)


@given(st.integers(4, 54), st.sampled_from("0Az_"))
def test_one_wrong_character_is_no_key(position: int, other: str) -> None:
    text = make_key().text
    changed = text[:position] + other + text[position + 1 :]
    assert changed == text or parse_key(changed) is None


@pytest.mark.parametrize("text", ["", "plh_", "plh_x_y", "ghp_abc", "plh_" + "0" * 51, "plh_é"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(TokenRefused, match="not valid"):
        token_verify(text)


def test_a_key_is_stored_as_a_hash_only() -> None:
    token, text = make()
    stored = str(ApiToken.objects.filter(id=token.id).values().get()) + str(list(Event.objects.values()))
    assert text.rpartition("_")[2][:32] not in stored
    assert token_verify(text).id == token.id


def test_a_key_with_the_right_id_and_another_secret_is_refused() -> None:
    token, _ = make()
    other = make_key()
    forged = type(other)(token.id, other.secret).text
    with pytest.raises(TokenRefused, match="not valid"):
        token_verify(forged)


def test_a_key_may_what_its_scopes_allow_and_no_more() -> None:
    token, _ = make(roles=frozenset({Role.OPERATOR}))
    actor = actor_of_token(token, "r-1")
    assert actor.kind == "key"
    assert actor.label == "nightly job (key of alice)"
    assert actor.actions == actions_of(frozenset({Role.OPERATOR}))


def test_a_key_loses_what_its_maker_loses() -> None:
    token, text = make()
    Membership.objects.filter(user=token.user, role=Role.ENGINEER).delete()
    assert actor_of_token(token_verify(text)).actions == frozenset()


def test_a_key_beyond_its_makers_roles_is_refused() -> None:
    with pytest.raises(Forbidden, match="admin"):
        make(roles=frozenset({Role.ENGINEER, Role.ADMIN}))
    assert not ApiToken.objects.exists()


def test_nobody_makes_a_key_for_somebody_else_and_no_key_makes_keys() -> None:
    token, _ = make()
    ada = make_user("ada")
    for actor in (actor_of(ada), actor_of_token(token)):
        with pytest.raises(Forbidden):
            token_make(actor=actor, user=token.user, label="x", roles=frozenset({Role.OPERATOR}))


@pytest.mark.parametrize(
    ("change", "pointer"),
    [({"label": " "}, "/label"), ({"label": "x" * 81}, "/label"), ({"roles": frozenset()}, "/roles")],
)
def test_bad_input_names_the_field(change: dict[str, Any], pointer: str) -> None:
    user = make_user("alice")
    good: dict[str, Any] = {"label": "x", "roles": frozenset({Role.ENGINEER})}
    with pytest.raises(InvalidInput) as refused:
        token_make(actor=actor_of(user), user=user, **{**good, **change})
    assert refused.value.fields[0].pointer == pointer


def test_a_key_expires_on_the_second() -> None:
    end = now() + timedelta(days=1)
    _, text = make(expires_at=end)
    with set_clock(lambda: end - timedelta(microseconds=1)):
        token_verify(text)
    with set_clock(lambda: end), pytest.raises(TokenRefused, match="expired"):
        token_verify(text)
    with pytest.raises(InvalidInput):
        make("olga", frozenset({Role.OPERATOR}), expires_at=now() - timedelta(seconds=1))


def test_a_revoked_key_opens_nothing_and_is_revoked_once() -> None:
    token, text = make()
    for _ in range(2):
        token_revoke(actor=actor_of(token.user), token_id=token.id)
    with pytest.raises(TokenRefused, match="revoked"):
        token_verify(text)
    assert Event.objects.filter(verb="token.revoked").count() == 1


def test_an_admin_can_revoke_anybodys_key_and_a_colleague_cannot() -> None:
    token, _ = make()
    olga, ada = actor_of(make_user("olga")), actor_of(make_user("ada"))
    with pytest.raises(Forbidden, match="admin"):
        token_revoke(actor=olga, token_id=token.id)
    with pytest.raises(Forbidden):
        token_revoke(actor=olga, token_id="nothing")  # and she does not learn which keys there are
    assert token_revoke(actor=ada, token_id=token.id).revoked_at is not None
    with pytest.raises(NotFound):
        token_revoke(actor=ada, token_id="nothing")


def test_a_key_of_a_switched_off_account_opens_nothing() -> None:
    token, text = make()
    token.user.is_active = False
    token.user.save()
    with pytest.raises(TokenRefused, match="switched off"):
        token_verify(text)
    assert actor_of_token(token).actions == frozenset()


def test_use_is_noted_at_most_once_a_minute(django_assert_num_queries: Any) -> None:
    _, text = make()
    start = now()
    with set_clock(lambda: start):
        assert token_verify(text).id
    for seconds, queries in ((1, 0), (59, 0), (60, 1)):  # beside the prepared one that finds the key
        moment = start + timedelta(seconds=seconds)
        with set_clock(partial(_same, moment)), django_assert_num_queries(queries):
            token_verify(text)
    assert ApiToken.objects.get().last_used_at == start + timedelta(seconds=60)


def _same(moment: datetime) -> datetime:
    return moment
