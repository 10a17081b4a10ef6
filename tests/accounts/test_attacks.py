"""What somebody tries who has a password, a code that was seen, or an old session: each attempt leads nowhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.conf import settings as django_settings
from django.test import Client

from apps.accounts.domain.browsers import browser_words
from apps.accounts.domain.roles import Role
from apps.accounts.models import Membership, User
from apps.kernel.clock import now, set_clock
from tests.accounts.test_sessions import is_in, sign_in, with_totp
from tests.cast import PASSWORD, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_memory() -> Iterator[None]:
    """allauth counts attempts and used codes in the cache, which outlives a test."""
    from django.core.cache import cache

    cache.clear()
    yield
    cache.clear()


def half_way(name: str) -> Client:
    """Has given the password, and is asked for the second factor."""
    client = Client()
    answer = client.post("/sign-in", {"username": name, "password": PASSWORD})
    assert answer.headers["Location"].startswith("/sign-in/code")
    return client


def guarded(name: str) -> str:
    """An account with an authenticator app; its secret. The code of that moment is spent by setting it up."""
    make_user(name)
    client = sign_in(name)
    client.post("/account/confirm/?next=/account/", {"password": PASSWORD})
    return with_totp(client)


def code_of(secret: str, place: int) -> str:
    """The app's codes that are good now: 0 is the present one, the next one and the one before follow."""
    return str(format_hotp_value(hotp_value(secret, list(yield_hotp_counters_from_time())[place])))


def test_a_code_that_was_looked_at_over_the_shoulder_opens_nothing_a_second_time() -> None:
    secret = guarded("alice")
    from django.core.cache import cache

    cache.clear()  # as half a minute later, when the code that set it up is past
    code = code_of(secret, 0)
    owner, thief = half_way("alice"), half_way("alice")
    assert owner.post("/sign-in/code", {"code": code}).status_code == 302
    assert is_in(owner)
    assert thief.post("/sign-in/code", {"code": code}).status_code == 200
    assert not is_in(thief)


def test_the_session_before_the_code_is_not_the_one_after_it() -> None:
    secret = guarded("alice")
    from django.core.cache import cache

    cache.clear()
    client = half_way("alice")
    before = str(client.session.session_key)
    assert client.post("/sign-in/code", {"code": code_of(secret, 0)}).status_code == 302
    assert str(client.session.session_key) != before
    thief = Client()
    thief.cookies[django_settings.SESSION_COOKIE_NAME] = before
    assert not is_in(thief)


@pytest.mark.parametrize("path", ["/", "/account/", "/account/two-factor/codes", "/settings/targets/", "/api/v1/me"])
def test_with_the_password_alone_nothing_is_open(path: str) -> None:
    guarded("alice")
    assert half_way("alice").get(path).status_code in {302, 401}


def test_codes_are_not_guessed_one_after_another() -> None:
    secret = guarded("alice")
    from django.core.cache import cache

    cache.clear()
    client = half_way("alice")
    answers = [client.post("/sign-in/code", {"code": f"{number:06d}"}).content.decode() for number in range(12)]
    assert "Incorrect code." in answers[0]
    assert "Incorrect code." not in answers[-1]
    assert client.post("/sign-in/code", {"code": code_of(secret, 0)}).status_code != 302, "not even the right one now"
    assert not is_in(client)


def test_a_new_password_ends_every_other_session_and_keeps_ones_own() -> None:
    make_user("alice")
    here, stolen = sign_in("alice"), sign_in("alice")
    here.post("/account/confirm/?next=/account/", {"password": PASSWORD})
    new = "another sentence, quite long"
    changed = here.post("/account/password", {"oldpassword": PASSWORD, "password1": new, "password2": new})
    assert changed.headers["Location"] == "/account/"
    assert (is_in(here), is_in(stolen)) == (True, False)
    assert Client().post("/sign-in", {"username": "alice", "password": PASSWORD}).status_code == 403


def test_fields_that_a_form_does_not_have_make_nobody_more_than_they_are() -> None:
    make_user("ada", frozenset({Role.ADMIN}))
    ada = sign_in("ada")
    extra = {
        "roles": "admin",
        "role": "admin",
        "kind": "service",
        "is_superuser": "1",
        "is_staff": "1",
        "password": "x",
    }
    assert ada.post("/people/new", {"username": "mass", **extra}).status_code == 200
    made = User.objects.get(username="mass")
    assert (made.kind, made.has_usable_password(), made.owner_team_id) == ("person", False, None)
    assert not Membership.objects.filter(user=made).exists()


def test_an_admin_of_one_team_makes_nobody_an_admin_of_every_team() -> None:
    from apps.accounts.services.teams import team_create
    from apps.kernel.actor import SYSTEM

    make_user("eve", frozenset({Role.ADMIN}), team_create(actor=SYSTEM, slug="acme"))
    eve = sign_in("eve")
    other = User.objects.get(username="eve")
    before = list(Membership.objects.values_list("user_id", "role", "team_id", "environment"))
    for team in ("", "globex", "default"):
        answer = eve.post(f"/people/{other.pk}/roles", {"role": "admin", "team": team, "environment": ""})
        assert answer.status_code >= 400 or answer.status_code == 302
    assert list(Membership.objects.values_list("user_id", "role", "team_id", "environment")) == before


def test_what_was_open_when_the_day_was_over_is_closed() -> None:
    make_user("alice")
    client, start = sign_in("alice"), now()
    from datetime import timedelta

    with set_clock(lambda: start + timedelta(hours=13)):
        assert not is_in(client)
    assert not is_in(client), "and does not open again"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36",
         "Chrome 150 on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 "
         "Safari/537.36 Edg/150.0.0.0", "Edge 150 on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 26_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 "
         "Mobile/15E148 Safari/604.1", "Safari 26 on iPhone"),
        ("Mozilla/5.0 (Android 16; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0", "Firefox 140 on Android"),
        ("curl/8.5.0", "curl 8"),
        ("", "unknown browser"),
        ("x" * 300, "x" * 59 + "…"),
    ],
)  # fmt: skip
def test_a_session_is_named_so_that_its_owner_knows_it(said: str, words: str) -> None:
    assert browser_words(said) == words
