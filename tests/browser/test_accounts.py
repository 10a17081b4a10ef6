"""Sign-in, teams, keys, CI and the audit log: by clicks where a person clicks, by real HTTP where a program calls,
against an identity provider that really signs.

The web process is the product's own, in a thread of the test. What only a started product shows (its files of secrets,
its first link, a second start) is in test_journeys.py.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin

from apps.accounts.domain.roles import Role
from apps.accounts.models import ApiToken, Team, User
from apps.audit.services.checkpoints import checkpoints_ship
from apps.kernel.clock import now
from controlplane import live_consumer
from tests.accounts.servers import Provider, running
from tests.api.world import World, make_world
from tests.audit.flushable import django_db_setup
from tests.audit.logs import sign
from tests.browser.acting import age_session, asks, drain, key_made, person, post, signed_client
from tests.browser.conftest import is_fault
from tests.browser.steps import FLAGS, PASSWORD, PATIENCE_MS, chromium_path
from tests.stack import ROOT

__all__ = ["django_db_setup"]
pytestmark = [pytest.mark.browser, pytest.mark.real, pytest.mark.timeout(600)]
PLACES = (
    "/people/",
    "/teams/",
    "/trusts/",
    "/settings/webhooks/",
    "/access/",
    "/account/",
    "/account/two-factor/",
    "/audit/",
    "/reviews/",
    "/experiments/",
    "/experiments/new/",
)


@pytest.fixture(scope="module")
def issuer() -> Iterator[Provider]:
    with running(Provider()) as found:
        yield found


@pytest.fixture
def world(transactional_db: None, tmp_path: Path, settings: Any, issuer: Provider, web: str) -> World:
    """One inner address opened to the product, the issuer's; secrets and keys in a folder of the test."""
    settings.PILOTHOUSE_OUTBOUND_ALLOW = (issuer.address,)
    settings.PILOTHOUSE_BASE_URL = web
    settings.PILOTHOUSE_HOME = tmp_path
    settings.PILOTHOUSE_VAULT_FILE = tmp_path / "vault.json"
    settings.PILOTHOUSE_AUDIT_KEYS = str(tmp_path / "audit")
    settings.PILOTHOUSE_AUDIT_SINK = str(tmp_path / "sink")
    return make_world(tmp_path)


@pytest.fixture
def ana(world: World) -> User:
    """The first person: every role."""
    return person("ana", *Role)


@pytest.fixture
def chromium(monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        yield browser
        browser.close()


def sign_in(page: Page, name: str) -> None:
    page.goto("/sign-in")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="Fleet")).to_be_visible()


@pytest.fixture
def page(ana: User, web: str, chromium: Browser) -> Iterator[Page]:
    """Ana's page, signed in by her password; its console must be empty at the end."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, base_url=web)
    found = context.new_page()
    found.set_default_timeout(PATIENCE_MS)
    said: list[str] = []
    found.on("console", lambda one: said.append(one.text) if is_fault(one) else None)
    found.on("pageerror", lambda error: said.append(str(error)))
    sign_in(found, "ana")
    yield found
    found.goto("about:blank")
    context.close()
    assert said == []


def test_the_rooms_are_reached_by_rail_key_and_palette(page: Page) -> None:
    page.goto("/")
    rail = page.get_by_role("navigation", name="Rooms")
    for word in ("Fleet", "Rollouts", "Models", "Experiments", "Reviews", "Audit", "Settings"):
        expect(rail.get_by_role("link", name=word)).to_be_visible()
    for key, path in (("v", "/reviews/"), ("a", "/audit/"), ("s", "/settings/targets/")):
        page.keyboard.press("g")
        page.keyboard.press(key)
        page.wait_for_url(re.compile(re.escape(path)))
    page.keyboard.press("Control+k")
    page.keyboard.type("what may")
    expect(page.get_by_role("option", selected=True)).to_contain_text("What may X do?")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/access/"))


def test_on_a_phone_every_room_is_in_reach_and_no_page_is_wider_than_it(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    for path in PLACES:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
    links = page.get_by_role("navigation", name="Rooms").get_by_role("link")
    boxes = [box for box in (link.bounding_box() for link in links.all()) if box]
    assert len(boxes) == 8
    assert all(box["width"] >= 44 and box["height"] >= 44 and box["x"] + box["width"] <= 360.5 for box in boxes)


def test_a_team_its_robot_and_a_trust_are_made_by_clicks_and_a_job_trades_its_identity_once(
    page: Page, web: str, issuer: Provider
) -> None:
    page.goto("/teams/")
    page.get_by_label("Short name").fill("fraud")
    page.get_by_label("Name", exact=True).fill("Fraud detection")
    page.get_by_role("button", name="Make the team").click()
    page.get_by_label("Make a service account").fill("ci")
    page.get_by_role("button", name="Make it").click()
    page.get_by_label("Role", exact=True).select_option("engineer")
    page.get_by_role("button", name="Show what it changes").click()
    expect(page.locator("#asked")).to_contain_text("start a rollout")
    page.get_by_role("button", name="Give the role engineer").click()
    page.goto("/trusts/")
    for label, text in (("Name", "fraud: release"), ("Issuer", issuer.issuer), ("Audience", "pilothouse"),
                        ("Repository id", "734501")):  # fmt: skip
        page.get_by_label(label, exact=True).fill(text)
    page.get_by_label("CI environment").fill("release")
    page.get_by_role("checkbox", name="engineer").check()
    page.get_by_role("button", name="Trust the job").click()
    expect(page.get_by_role("status")).to_contain_text("fraud: release")
    claims = {"iss": issuer.issuer, "aud": "pilothouse", "repository_id": "734501", "environment": "release"}
    page.get_by_label("Token or claims").fill(issuer.sign({**claims, "ref": "refs/heads/other"}))
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("tr", has_text="refs/heads/other")).to_contain_text("differs")
    page.get_by_label("Token or claims").fill(json.dumps({**claims, "ref": "refs/heads/main"}))
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="fraud: release")).to_contain_text("●fits")
    del claims["iss"]
    _a_job_trades_its_identity(web, issuer, claims)

    token = exchange(web, issuer.sign({**claims, "ref": "refs/heads/main"})).json()["access_token"]
    assert asks(web, token).status_code == 200
    page.goto("/trusts/")
    page.locator("summary", has_text="Stop trusting").click()
    page.get_by_role("button", name="Stop trusting").click()
    expect(page.get_by_role("status")).to_contain_text("not trusted any more")
    assert asks(web, token).status_code == 401


def exchange(web: str, token: str) -> httpx.Response:
    """A job's identity for a token of ours (RFC 8693)."""
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "subject_token": token,
    }
    return httpx.post(f"{web}/api/v1/auth/token-exchange", data=form, timeout=30)


def _a_job_trades_its_identity(web: str, issuer: Provider, claims: dict[str, str]) -> None:
    """For a token of fifteen minutes, signed by the published key, and only once."""
    identity = issuer.sign({**claims, "ref": "refs/heads/main"})
    answer = exchange(web, identity)
    assert (answer.status_code, answer.json()["expires_in"]) == (200, 900), answer.text
    token = answer.json()["access_token"]
    keys = httpx.get(f"{web}/.well-known/jwks.json", timeout=30).json()
    public = jwt.PyJWKSet.from_dict(keys)[jwt.get_unverified_header(token)["kid"]].key
    read = jwt.decode(token, public, algorithms=["RS256"], audience=web, issuer=web)
    assert read["exp"] - read["iat"] == 900
    me = asks(web, token).json()
    assert (me["kind"], me["username"], me["roles"]) == ("ci", "fraud.ci", ["engineer"])
    assert exchange(web, identity).json()["error"] == "invalid_grant", "an identity is taken once"
    assert exchange(web, issuer.sign({**claims, "ref": "refs/heads/other"})).status_code == 400
    assert "/jwks" in issuer.asked, "the key was fetched from the issuer, over HTTP"


def test_a_key_is_replaced_with_a_day_of_overlap_and_limits_are_kept(page: Page, web: str) -> None:
    page.goto("/account/")
    page.get_by_label("Name").fill("nightly")
    page.get_by_role("button", name="Make the key").click()
    old = page.locator(".note.ok pre").inner_text()
    page.goto("/account/")
    assert old not in page.content(), "a key is shown once"
    page.locator("summary", has_text="Replace").click()
    page.get_by_role("button", name="Replace nightly").click()
    new = page.locator(".note.ok pre").inner_text()
    assert old != new
    assert [asks(web, key).status_code for key in (old, new)] == [200, 200]
    page.goto("/account/")
    panel = page.locator(f"#revoke-{old.split('_')[1]}")
    panel.locator("summary").click()
    panel.get_by_role("button").click()
    assert [asks(web, key).status_code for key in (old, new)] == [401, 200]


def test_an_expired_key_and_one_from_the_wrong_network_are_refused(ana: User, web: str) -> None:
    late, away, here = (key_made(ana, networks=networks) for networks in ([], ["10.0.0.0/8"], ["127.0.0.0/8"]))
    ApiToken.objects.filter(pk=late.split("_")[1]).update(expires_at=now() - timedelta(seconds=1))
    answers = [asks(web, key) for key in (late, away, here)]
    assert [answer.status_code for answer in answers] == [401, 401, 200]
    assert "expired" in answers[0].json()["detail"]
    assert "address" in answers[1].json()["detail"]


def test_what_was_typed_survives_the_confirmation(page: Page) -> None:
    page.goto("/account/")
    form = page.locator("form[action='/account/keys/']")
    form.get_by_label("Name").fill("half typed")
    form.locator("input[name=roles][value=engineer]").check()
    age_session(page)
    form.get_by_role("button", name="Make the key").click()
    page.wait_for_url("**/account/confirm/**")
    expect(page.get_by_text("What you filled in is kept")).to_be_visible()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm that it is you").click()
    page.wait_for_url("**/account/go-on")
    expect(page.locator("form.kept")).to_contain_text("half typed")
    page.reload()
    expect(page.locator("form.kept")).to_contain_text("half typed")
    page.get_by_role("button", name="Send it now").click()
    expect(page.locator("main")).to_contain_text("plh_")
    assert ApiToken.objects.filter(label="half typed").count() == 1


def test_a_session_that_is_ended_is_out_at_its_next_request_and_off_its_socket(
    world: World, web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_consumer, "RECHECK_SECONDS", 1.0)
    person("olga", Role.OPERATOR)
    with closing(signed_client(web, "olga")) as here, closing(signed_client(web, "olga")) as there:
        address = web.replace("http", "ws") + "/live"
        headers = {"Cookie": f"sessionid={there.cookies['sessionid']}"}
        with connect(address, additional_headers=headers, origin=Origin(web), open_timeout=60) as socket:
            socket.send('{"subscribe": ["fleet"]}')
            assert post(here, "/account/sessions/end-others", {}).status_code == 302
            assert there.get("/account/").headers["Location"].startswith("/sign-in")
            with pytest.raises(ConnectionClosed):
                drain(socket)
            assert socket.close_code == 4401
        assert here.get("/account/").status_code == 200


def test_whoever_guesses_is_slowed_down_and_the_right_password_too(world: World, web: str) -> None:
    person("ursula", Role.VIEWER)
    with httpx.Client(base_url=web, timeout=60) as client:
        client.get("/sign-in")
        said = [post(client, "/sign-in", {"username": "ursula", "password": f"wrong {n}"}) for n in range(11)]
        assert {answer.status_code for answer in said[:10]} == {403}
        assert "Too many failed attempts" in said[10].text
        right = post(client, "/sign-in", {"username": "ursula", "password": PASSWORD})
        assert "Too many failed attempts" in right.text


def test_a_role_holds_from_the_next_request_on_and_buttons_say_why_and_who(
    page: Page, web: str, chromium: Browser
) -> None:
    person("vic", Role.VIEWER)
    Team.objects.create(slug="fraud", name="Fraud detection")
    context = chromium.new_context(base_url=web)
    other = context.new_page()
    sign_in(other, "vic")
    other.goto("/people/")
    expect(other.get_by_role("button", name="Make the account")).to_be_disabled()
    expect(other.locator("#why")).to_contain_text("admin")
    assert other.goto("/models/-/register").status == 403  # type: ignore[union-attr]
    page.goto("/teams/fraud")
    page.get_by_label("Person").select_option(label="vic")
    page.get_by_label("Role", exact=True).select_option("engineer")
    page.get_by_role("button", name="Show what it changes").click()
    expect(page.locator("#asked")).to_contain_text("register a version")
    page.get_by_role("button", name="Give the role engineer").click()
    expect(page.locator("tr", has_text="vic")).to_contain_text("engineer")
    assert other.goto("/models/-/register").status == 200  # type: ignore[union-attr]
    page.locator("tr", has_text="vic").locator("summary", has_text="engineer").click()
    page.get_by_role("button", name="Take engineer away").click()
    assert other.goto("/models/-/register").status == 403  # type: ignore[union-attr]
    context.close()


def test_every_kind_of_page_stands_behind_its_headers(page: Page, web: str) -> None:
    cookies = {one["name"]: one["value"] for one in page.context.cookies()}
    with httpx.Client(base_url=web, timeout=30, cookies=cookies) as client:
        kinds = ("/", "/sign-in", "/audit/", "/trusts/", "/nothing-here", "/people/999999", "/api/v1/me",
                 "/api/v1/nope", "/api/2.0/mlflow/registered-models/search", "/_find/?q=x", "/livez",
                 "/setup/nope")  # fmt: skip
        for path in kinds:
            headers = client.get(path).headers
            assert headers["X-Content-Type-Options"] == "nosniff", path
            assert headers["X-Request-ID"], path
            if "html" in headers.get("Content-Type", ""):
                policy = headers["Content-Security-Policy"]
                assert "default-src 'none'; script-src 'self';" in policy, path
                assert "frame-ancestors 'none'" in policy, path
                assert (headers["X-Frame-Options"], headers["Referrer-Policy"]) == ("DENY", "same-origin"), path
    jar = {one["name"]: one for one in page.context.cookies()}
    assert jar["sessionid"]["httpOnly"]
    assert {jar[name]["sameSite"] for name in ("sessionid", "csrftoken")} == {"Lax"}


def test_an_export_verifies_offline_and_a_touched_one_names_the_entry(page: Page, web: str, tmp_path: Path) -> None:
    sign()
    assert checkpoints_ship() == 1  # as the worker's clock does both
    key = key_made(person("audrey", Role.AUDITOR), Role.AUDITOR)
    out = tmp_path
    sink = out / "sink" / "checkpoints.jsonl"
    export = out / "audit.jsonl"
    export.write_bytes(asks(web, key, "audit/export").content)

    def verify(file: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli.main", "audit", "verify", str(file)]
        trusted = ["--checkpoints", str(sink), "--keys", str(out / "audit" / "keys.json")]
        return subprocess.run([*command, *trusted], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    whole = verify(export)
    assert (whole.returncode, whole.stdout[:6]) == (0, "Intact"), whole.stdout + whole.stderr
    lines = export.read_text().splitlines()
    at = next(index for index, line in enumerate(lines) if '"seq":5,' in line)
    touched = {
        "mutate": [*lines[:at], lines[at].replace('"verb":"', '"verb":"x'), *lines[at + 1 :]],
        "delete": [*lines[:at], *lines[at + 1 :]],
        "reorder": [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]],
        "insert": [*lines[:at], lines[at - 1], *lines[at:]],
        "drop tail": lines[: at + 1],
    }
    for name, kept in touched.items():
        bad = out / "touched.jsonl"
        bad.write_text("\n".join(kept) + "\n")
        found = verify(bad)
        first = "6" if name == "drop tail" else "5"
        assert (found.returncode, f"BROKEN at entry {first}" in found.stdout) == (1, True), (name, found.stdout)
    page.goto("/audit/")
    expect(page.locator("#chain")).to_contain_text("chain intact")
    page.locator("tr[data-href] a").first.click()
    expect(page.get_by_role("heading", name="Proof")).to_be_visible()
    expect(page.locator("main")).to_contain_text("Its hash is made from what stands here.")
