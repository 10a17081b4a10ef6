"""A CI job's identity for a token of ours: only exactly as a trust says, once, and for 15 minutes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.test import Client

from apps.accounts.domain.roles import Role
from apps.accounts.drivers.issuers import issuers_forget
from apps.accounts.models import CiTrust, SigningKey, Team, User
from apps.accounts.selectors import team_default
from apps.accounts.services.access import access_allows
from apps.accounts.services.credentials import credential_actor
from apps.accounts.services.memberships import membership_give
from apps.accounts.services.signing import JwtRefused, jwt_sign, jwt_verify, signing_key_rotate
from apps.accounts.services.teams import service_create
from apps.accounts.services.tokens import TokenRefused
from apps.accounts.services.trusts import trust_create, trust_revoke
from apps.audit.models import Event
from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now, set_clock
from apps.kernel.errors import Conflict, InvalidInput
from tests.accounts.servers import Provider, running
from tests.cast import make_actor

pytestmark = pytest.mark.django_db
AUDIENCE = "https://pilothouse.example"
JOB = {
    "aud": AUDIENCE,
    "sub": "repo:acme/fraud:environment:prod",
    "repository": "acme/fraud",
    "repository_id": "4711",
    "ref": "refs/heads/main",
    "environment": "prod",
    "run_id": "912",
    "sha": "abc123",
}


@pytest.fixture
def provider(settings: Any) -> Iterator[Provider]:
    issuers_forget()
    with running(Provider()) as found:
        settings.PILOTHOUSE_OUTBOUND_ALLOW = (found.address,)
        yield found


def service(team: Team | None = None, name: str = "ci") -> User:
    owner = team or team_default()
    user = service_create(actor=SYSTEM, team=owner, name=name)
    for role in (Role.ENGINEER, Role.VIEWER):
        membership_give(actor=SYSTEM, user=user, role=role, team=owner)
    return user


def trust(at: Provider, account: User, **over: Any) -> CiTrust:
    given = {
        "label": "fraud on GitHub",
        "provider": "github",
        "issuer": at.issuer,
        "audience": AUDIENCE,
        "repository_id": "4711",
        "ref": "refs/heads/main",
        "environment": "prod",
        "roles": frozenset({Role.ENGINEER}),
        "environments": ("staging",),
    }
    return trust_create(actor=SYSTEM, account=account, **{**given, **over})


def exchange(token: str, **over: str) -> Any:
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "subject_token": token,
        **over,
    }
    return Client().post(
        "/api/v1/auth/token-exchange", urlencode(form), content_type="application/x-www-form-urlencoded"
    )


def test_a_trusted_job_gets_a_token_that_acts_as_its_service_account(provider: Provider) -> None:
    account = service()
    found = trust(provider, account)
    answer = exchange(provider.sign(JOB))
    assert answer.status_code == 200, answer.content
    body = answer.json()
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 900, "engineer")
    assert answer["Cache-Control"] == "no-store"
    me = Client().get("/api/v1/me", headers={"Authorization": f"Bearer {body['access_token']}"}).json()
    assert (me["kind"], me["username"], me["roles"]) == ("ci", "default.ci", ["engineer"])
    assert me["label"] == "default.ci (CI: acme/fraud run 912)"
    assert me["chain"] == [
        f"service:{account.pk} default.ci",
        f"trust:{found.pk} fraud on GitHub",
        "ci:acme/fraud run 912",
    ]
    _, _, actor = credential_actor(body["access_token"])
    team = team_default().pk
    assert access_allows(actor, "rollout.start", team, "staging")
    assert not access_allows(actor, "rollout.start", team, "production")
    event = Event.objects.get(verb="trust.exchanged")
    assert (event.actor_kind, event.detail["sha"]) == ("ci", "abc123")


def test_a_jobs_token_opens_the_mlflow_protocol_too(provider: Provider) -> None:
    trust(provider, service(), environments=())
    token = exchange(provider.sign(JOB)).json()["access_token"]
    path = "/api/2.0/mlflow/registered-models/create"
    answer = Client().post(path, {"name": "fraud"}, "application/json", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.content
    event = Event.objects.filter(subject_kind="model").latest("seq")
    assert (event.actor_kind, event.actor_chain[-1]) == ("ci", "ci:acme/fraud run 912")


@pytest.mark.parametrize(
    "change",
    [
        {"aud": "https://elsewhere.example"},
        {"ref": "refs/heads/main2"},
        {"ref": "refs/heads/*"},
        {"ref": None},
        {"repository_id": "4712"},  # the same name, registered again by somebody else
        {"repository_id": None},
        {"environment": "staging"},
        {"environment": None},
        {"repository_id": True},
        {"iss": "https://evil.example"},
        {"jti": None},
        {"exp": None},
    ],
)
def test_a_job_that_differs_in_one_claim_gets_nothing(provider: Provider, change: dict[str, Any]) -> None:
    trust(provider, service())
    answer = exchange(provider.sign({**JOB, **change}))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert not Event.objects.filter(verb="trust.exchanged").exists()


def test_times_are_checked_with_half_a_minute_of_patience(provider: Provider) -> None:
    trust(provider, service())
    moment = int(now().timestamp())
    refused = [{"exp": moment - 31}, {"nbf": moment + 60}, {"iat": moment + 60}, {"exp": moment + 90_000}]
    assert {exchange(provider.sign({**JOB, **times})).status_code for times in refused} == {400}
    fine = [{"exp": moment - 20}, {"nbf": moment + 20}]
    assert {exchange(provider.sign({**JOB, **times})).status_code for times in fine} == {200}


def test_an_identity_is_taken_once(provider: Provider) -> None:
    trust(provider, service())
    identity = provider.sign(JOB)
    assert exchange(identity).status_code == 200
    again = exchange(identity)
    assert (again.status_code, again.json()["code"]) == (400, "identity_replayed")


def test_a_signature_by_anything_but_the_issuers_rsa_key_is_refused(provider: Provider) -> None:
    trust(provider, service())
    public = provider.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    whole = {**JOB, "iss": provider.issuer, "iat": 1, "exp": 2**33, "jti": "x"}
    unsigned = jwt.encode(whole, None, algorithm="none", headers={"kid": "k1"})
    # The public key as an HMAC secret: what a verifier that believes the header's alg would accept.
    confused = _hmac_token(whole, public)
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    provider.signing_key = stranger
    forged, unknown = provider.sign(JOB), provider.sign(JOB, kid="k9")
    provider.signing_key = None
    for token in (unsigned, confused, forged, unknown, "x.y.z", "", provider.sign(JOB)[:-8] + "AAAAAAAA"):
        answer = exchange(token)
        assert answer.status_code in {400, 422}, answer.content
    assert exchange(provider.sign(JOB)).status_code == 200


def _hmac_token(claims: dict[str, Any], secret: bytes) -> str:
    import base64
    import hashlib
    import hmac

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head = f"{part(json.dumps({'alg': 'HS256', 'kid': 'k1'}).encode())}.{part(json.dumps(claims).encode())}"
    return f"{head}.{part(hmac.new(secret, head.encode(), hashlib.sha256).digest())}"


def test_an_issuer_that_no_trust_names_is_never_called(provider: Provider) -> None:
    exchange(provider.sign(JOB))
    assert provider.asked == []


def test_keys_are_fetched_once_and_again_when_the_issuer_rotates(provider: Provider) -> None:
    trust(provider, service())
    for _ in range(3):
        assert exchange(provider.sign(JOB)).status_code == 200
    assert provider.asked.count("/jwks") == 1
    provider.kid, provider.key = "k2", rsa.generate_private_key(public_exponent=65537, key_size=2048)
    later = now() + timedelta(seconds=61)
    with set_clock(lambda: later):
        assert exchange(provider.sign(JOB)).status_code == 200
        assert provider.asked.count("/jwks") == 2
        for number in range(5):
            assert exchange(provider.sign(JOB, kid=f"unknown-{number}")).status_code == 400
        assert provider.asked.count("/jwks") == 2  # made-up key ids do not make us hammer the issuer


def test_an_issuer_that_cannot_be_reached_is_said_with_a_hint_to_retry(provider: Provider) -> None:
    trust(provider, service())
    identity = provider.sign(JOB)
    assert provider.server is not None
    provider.server.shutdown()
    provider.server.server_close()
    answer = exchange(identity)
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)


def test_two_accounts_that_trust_the_same_job_must_be_told_apart(provider: Provider) -> None:
    for name in ("ci", "release"):
        trust(provider, service(name=name))
    answer = exchange(provider.sign(JOB))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert exchange(provider.sign(JOB), account="default.release").status_code == 200


def test_scope_narrows_and_never_widens(provider: Provider) -> None:
    trust(provider, service(), roles=frozenset({Role.ENGINEER, Role.VIEWER}))
    assert exchange(provider.sign(JOB), scope="viewer").json()["scope"] == "viewer"
    assert exchange(provider.sign(JOB), scope="admin").json()["error"] == "invalid_scope"


def test_a_revoked_trust_takes_its_tokens_with_it(provider: Provider) -> None:
    account = service()
    found = trust(provider, account)
    assert CiTrust.objects.get().last_used_at is None
    token = exchange(provider.sign(JOB)).json()["access_token"]
    trust_revoke(actor=SYSTEM, trust_id=found.pk)
    with pytest.raises(TokenRefused, match="revoked"):
        credential_actor(token)
    assert exchange(provider.sign(JOB)).status_code == 400
    assert trust(provider, account).pk != found.pk


@pytest.mark.parametrize(
    ("over", "pointer"),
    [
        ({"ref": "refs/heads/*"}, "/ref"),
        ({"ref": "main"}, "/ref"),
        ({"repository_id": "acme/fraud"}, "/repository_id"),
        ({"audience": " "}, "/audience"),
        ({"issuer": "token.actions.githubusercontent.com"}, "/issuer"),
        ({"provider": "jenkins"}, "/provider"),
        ({"roles": frozenset({Role.OPERATOR})}, "/roles"),
        ({"roles": frozenset()}, "/roles"),
        ({"environments": ("prod",)}, "/environments"),
    ],
)
def test_a_trust_that_could_mean_more_than_one_job_is_refused(
    provider: Provider, over: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        trust(provider, service(), **over)
    assert refused.value.fields[0].pointer == pointer


def test_the_same_trust_twice_is_a_conflict(provider: Provider) -> None:
    account = service()
    trust(provider, account)
    with pytest.raises(Conflict):
        trust(provider, account)


class TestOurOwnTokens:
    def test_they_verify_by_the_published_keys_alone(self) -> None:
        token = jwt_sign({"sub": "service:1"})
        header = jwt.get_unverified_header(token)
        document = Client().get("/.well-known/jwks.json").json()
        (item,) = [item for item in document["keys"] if item["kid"] == header["kid"]]
        assert set(item) == {"kty", "n", "e", "kid", "use", "alg"}
        key = jwt.PyJWK.from_dict(item).key
        claims = jwt.decode(token, key, algorithms=["RS256"], audience="http://127.0.0.1:8000")
        assert (header["typ"], claims["exp"] - claims["iat"]) == ("at+jwt", 900)

    def test_a_rotation_fails_no_token_and_the_old_key_goes_when_its_last_token_has(self) -> None:
        old = jwt_sign({"sub": "service:1"})
        signing_key_rotate()
        new = jwt_sign({"sub": "service:1"})
        assert jwt.get_unverified_header(old)["kid"] != jwt.get_unverified_header(new)["kid"]
        assert [jwt_verify(token)["sub"] for token in (old, new)] == ["service:1"] * 2
        assert len(Client().get("/.well-known/jwks.json").json()["keys"]) == 2
        late = now() + timedelta(minutes=20)
        with set_clock(lambda: late):
            assert len(Client().get("/.well-known/jwks.json").json()["keys"]) == 1

    def test_a_month_makes_a_new_key_by_itself(self) -> None:
        jwt_sign({"sub": "service:1"})
        late = now() + timedelta(days=31)
        with set_clock(lambda: late):
            jwt_sign({"sub": "service:1"})
        assert SigningKey.objects.count() == 2

    def test_they_expire_on_the_second(self) -> None:
        moment = now().replace(microsecond=0)
        with set_clock(lambda: moment):
            token = jwt_sign({"sub": "service:1"})
        with set_clock(lambda: moment + timedelta(seconds=899)):
            jwt_verify(token)
        with set_clock(lambda: moment + timedelta(seconds=900)), pytest.raises(JwtRefused, match="expired"):
            jwt_verify(token)

    def test_forgeries_are_refused(self) -> None:
        token = jwt_sign({"sub": "service:1", "roles": ["viewer"]})
        claims = jwt.decode(token, options={"verify_signature": False})
        row = SigningKey.objects.get()
        head = {"kid": row.kid, "typ": "at+jwt"}
        stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        forged = [
            jwt.encode(claims, None, algorithm="none", headers=head),
            _hmac_token(claims, row.public_pem.encode()),
            jwt.encode(claims, stranger, algorithm="RS256", headers=head),
            jwt.encode(claims, stranger, algorithm="RS256", headers={**head, "kid": "sk_other"}),
            jwt_sign({"sub": "service:1"}).replace(".", "..", 1),
        ]
        for text in forged:
            with pytest.raises(JwtRefused):
                jwt_verify(text)

    def test_the_private_key_is_not_in_the_database(self) -> None:
        jwt_sign({"sub": "service:1"})
        row = SigningKey.objects.get()
        assert "PRIVATE" not in str(vars(row))
        assert row.private_sealed.startswith("v1.")

    def test_a_token_for_an_account_that_never_was_opens_nothing(self) -> None:
        with pytest.raises(TokenRefused):
            credential_actor(jwt_sign({"sub": "service:1", "trust": "ct_none", "roles": ["admin"]}))
        assert make_actor("mallory").actions == frozenset()
