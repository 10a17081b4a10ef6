"""Sign-in, second factors, single sign-on, and the life of a session."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings as django_settings
from django.test import Client

from apps.accounts.models import ApiToken, User
from apps.audit.models import Event
from apps.kernel.clock import now, set_clock
from tests.accounts.servers import Provider, running
from tests.cast import PASSWORD, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_memory() -> None:
    """allauth counts attempts in the cache, which outlives a test."""
    from django.core.cache import cache

    cache.clear()


def sign_in(name: str, client: Client | None = None) -> Client:
    client = client or Client()
    answer = client.post("/sign-in", {"username": name, "password": PASSWORD})
    assert answer.status_code == 302, answer.content
    return client


def is_in(client: Client) -> bool:
    return bool(client.get("/account/").status_code == 200)


def totp_now(secret: str) -> str:
    return str(format_hotp_value(hotp_value(secret, next(iter(yield_hotp_counters_from_time())))))


def with_totp(client: Client) -> str:
    """Activates an authenticator app on the page; its secret."""
    page = client.get("/account/two-factor/app")
    secret = str(page.context["form"].secret)
    assert b"data:image/svg+xml" in page.content
    assert client.post("/account/two-factor/app", {"code": totp_now(secret)}).status_code == 302
    return secret


def test_a_sign_in_rotates_the_session_and_is_written_down() -> None:
    make_user("alice")
    client = Client()
    client.get("/sign-in")
    session = client.session
    session["planted"] = "by somebody else"
    session.save()
    client.cookies[django_settings.SESSION_COOKIE_NAME] = before = str(session.session_key)
    sign_in("alice", client)
    assert client.session.session_key != before
    assert not Client(cookies={}).session.exists(before)
    event = Event.objects.get(verb="user.signed_in")
    assert (event.actor_label, event.detail["methods"]) == ("alice", ["password"])


def test_a_session_ends_after_half_an_hour_without_its_person() -> None:
    make_user("alice")
    client, start = sign_in("alice"), now()
    for minutes in (29, 58):
        with set_clock(lambda at=start + timedelta(minutes=minutes): at):  # type: ignore[misc]
            assert is_in(client)
    with set_clock(lambda: start + timedelta(minutes=58 + 31)):
        assert not is_in(client)


def test_a_page_that_refreshes_itself_is_not_its_person() -> None:
    make_user("alice")
    client, start = sign_in("alice"), now()
    for minutes in range(5, 30, 5):
        with set_clock(lambda at=start + timedelta(minutes=minutes): at):  # type: ignore[misc]
            assert client.get("/account/", headers={"HX-Request": "true"}).status_code == 200
    with set_clock(lambda: start + timedelta(minutes=31)):
        assert not is_in(client)


def test_a_session_ends_after_twelve_hours_however_busy_it_was() -> None:
    make_user("alice")
    client, start = sign_in("alice"), now()
    for minutes in range(20, 12 * 60, 20):
        with set_clock(lambda at=start + timedelta(minutes=minutes): at):  # type: ignore[misc]
            assert client.get("/account/").status_code == 200
    with set_clock(lambda: start + timedelta(hours=12)):
        assert not is_in(client)


def test_sessions_are_listed_and_can_be_ended_from_another() -> None:
    user = make_user("alice")
    here, there, third = (sign_in("alice") for _ in range(3))
    assert UserSession.objects.filter(user=user).count() == 3
    assert "this one" in here.get("/account/").content.decode()
    other = UserSession.objects.get(session_key=there.session.session_key)
    assert here.post(f"/account/sessions/{other.pk}/end").status_code == 302
    assert (is_in(here), is_in(there), is_in(third)) == (True, False, True)
    here.post("/account/sessions/end-others")
    assert (is_in(here), is_in(third)) == (True, False)
    assert Event.objects.filter(verb="user.sessions_ended").count() == 2


def test_nobody_ends_somebody_elses_session() -> None:
    make_user("alice")
    make_user("mallory")
    alice, mallory = sign_in("alice"), sign_in("mallory")
    other = UserSession.objects.get(user__username="alice")
    assert mallory.post(f"/account/sessions/{other.pk}/end").status_code == 404
    assert is_in(alice)


def test_a_key_is_made_only_by_whoever_proved_lately_who_they_are() -> None:
    make_user("alice")
    client, start = sign_in("alice"), now()
    wanted = {"label": "ci", "roles": ["engineer"], "days": "30"}
    with set_clock(lambda: start + timedelta(minutes=10)):
        answer = client.post("/account/keys/", wanted, headers={"Referer": "http://testserver/account/"})
        assert answer.headers["Location"] == "/account/confirm/?next=%2Faccount%2Fgo-on"
        api = client.post("/api/v1/tokens", {"label": "ci", "roles": ["engineer"]}, content_type="application/json")
        assert (api.status_code, api.json()["code"], api.json()["confirm_url"]) == (
            403,
            "step_up_required",
            "/account/confirm/",
        )
    assert not ApiToken.objects.exists()
    assert client.post("/account/confirm/?next=/account/", {"password": "wrong"}).status_code == 200
    confirmed = client.post("/account/confirm/?next=/account/", {"password": PASSWORD})
    assert confirmed.headers["Location"] == "/account/"
    assert client.post("/account/keys/", wanted).status_code == 200
    assert ApiToken.objects.exists()


def test_a_second_factor_is_asked_for_and_its_secret_is_sealed() -> None:
    make_user("alice")
    secret = with_totp(_confirmed("alice"))
    stored = str(list(Authenticator.objects.values_list("data", flat=True)))
    assert secret not in stored
    assert "v1.k" in stored
    client = Client()
    answer = client.post("/sign-in", {"username": "alice", "password": PASSWORD, "next": "/account/"})
    assert answer.headers["Location"].startswith("/sign-in/code")
    assert not is_in(client)
    assert "Second factor" in client.get("/sign-in/code").content.decode()
    assert client.post("/sign-in/code", {"code": "000000"}).status_code == 200
    assert not is_in(client)
    codes = Authenticator.objects.get(type=Authenticator.Type.RECOVERY_CODES).wrap().get_unused_codes()
    answer = client.post("/sign-in/code", {"code": codes[0]})
    assert answer.headers["Location"] == "/account/"
    assert is_in(client)
    again = Client()
    again.post("/sign-in", {"username": "alice", "password": PASSWORD})
    assert again.post("/sign-in/code", {"code": codes[0]}).status_code == 200  # a recovery code works once
    assert Event.objects.filter(verb="user.signed_in").last().detail["methods"] == ["password", "mfa"]  # type: ignore[union-attr]


def _confirmed(name: str) -> Client:
    client = sign_in(name)
    client.post("/account/confirm/?next=/account/", {"password": PASSWORD})
    return client


def test_every_page_about_second_factors_stands_under_the_policy_without_inline_scripts() -> None:
    make_user("alice")
    client = _confirmed("alice")
    with_totp(client)
    paths = ["", "app/remove", "codes", "codes/new", "keys", "keys/new"]
    for path in [*(f"/account/two-factor/{path}" for path in paths), "/account/password", "/account/confirm/"]:
        page = client.get(path)
        assert page.status_code == 200, path
        assert "script-src 'self';" in page["Content-Security-Policy"]
        for script in page.content.decode().split("<script")[1:]:
            head = script.partition(">")[0]
            assert "src=" in head or "application/json" in head, (path, head)


def test_a_passkey_is_asked_for_by_the_browser_with_a_challenge_of_ours() -> None:
    answer = Client().get("/sign-in/passkey", headers={"Accept": "application/json"})
    assert len(answer.json()["request_options"]["publicKey"]["challenge"]) > 20


def test_there_is_no_sign_up() -> None:
    for path in ("/signup", "/account/signup/", "/sign-up"):
        assert Client().get(path).status_code == 404


class TestSingleSignOn:
    @pytest.fixture
    def provider(self, settings: Any) -> Iterator[Provider]:
        with running(Provider()) as found:
            app = {"provider_id": "sso", "name": "Acme", "client_id": "pilothouse", "secret": "the-client-secret"}
            app_settings = {"server_url": found.issuer, "oauth_pkce_enabled": True}
            settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": [{**app, "settings": app_settings}]}}
            settings.PILOTHOUSE_OIDC_NAME = "Acme"
            yield found

    def come(self, client: Client | None = None) -> tuple[Client, Any]:
        """The stock flow as a browser goes through it: our button, the provider's page, our callback."""
        client = client or Client()
        there = client.post("/sso/sso/login?next=/account/")
        assert there.status_code == 302, there.content
        back = httpx.get(there.headers["Location"], follow_redirects=False, timeout=30)
        parts = urlsplit(back.headers["Location"])
        return client, client.get(f"{parts.path}?{parts.query}")

    def test_a_new_subject_is_a_new_account_without_a_role(self, provider: Provider) -> None:
        assert "Sign in with Acme" in Client().get("/sign-in").content.decode()
        client, answer = self.come()
        assert answer.headers["Location"] == "/account/"
        user = User.objects.get()
        assert (user.username, user.email, user.has_usable_password()) == ("grace", "", False)
        assert not user.memberships.exists()
        assert is_in(client)
        assert [event.verb for event in Event.objects.order_by("seq")] == ["user.created", "user.signed_in"]

    def test_the_same_subject_is_the_same_account_whatever_its_name_and_address(self, provider: Provider) -> None:
        self.come()
        provider.person |= {"preferred_username": "grace.hopper", "email": "other@site.example"}
        self.come()
        assert User.objects.count() == SocialAccount.objects.count() == 1

    def test_an_address_or_a_name_of_somebody_here_opens_nothing(self, provider: Provider) -> None:
        ada = make_user("ada")
        ada.email = "ada@site.example"
        ada.save()
        provider.person |= {"sub": "evil", "preferred_username": "ada", "email": "ada@site.example"}
        provider.person["email_verified"] = True
        self.come()
        stranger = SocialAccount.objects.get(uid="evil").user
        assert stranger.pk != ada.pk
        assert not stranger.memberships.exists()

    @pytest.mark.parametrize("fault", ["audience", "issuer", "expired", "signature", "unsigned"])
    def test_an_identity_that_is_not_right_signs_nobody_in(self, provider: Provider, fault: str) -> None:
        moment = int(now().timestamp())
        wrong = {
            "audience": {"aud": "other"},
            "issuer": {"iss": "https://evil.example"},
            "expired": {"exp": moment - 60},
        }
        provider.overrides = wrong.get(fault, {})
        if fault == "signature":
            provider.signing_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        if fault == "unsigned":
            provider.sign = lambda claims, **header: jwt.encode(  # type: ignore[method-assign]
                {**claims, "iss": provider.issuer, "iat": moment, "exp": moment + 60}, None, algorithm="none"
            )
        client, answer = self.come()
        assert answer.headers["Location"] == "/sign-in?sso=failed"
        assert "did not sign you in" in client.get("/sign-in?sso=failed").content.decode()
        assert not User.objects.exists()

    def test_a_callback_that_nobody_started_signs_nobody_in(self, provider: Provider) -> None:
        answer = Client().get("/sso/sso/callback?code=x&state=y")
        assert answer.headers["Location"] == "/sign-in?sso=failed"

    def test_a_second_factor_of_ours_is_asked_for_after_the_provider_too(self, provider: Provider) -> None:
        client, _ = self.come()
        with_totp(client)
        again, answer = self.come()
        assert answer.headers["Location"].startswith("/sign-in/code")
        assert not is_in(again)
