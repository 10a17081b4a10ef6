"""Sign-in, teams, keys, CI and the audit log on the running product: by clicks where a person clicks, by real HTTP
where a program calls, against an identity provider that really signs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import jwt
import pytest
from playwright.sync_api import Browser, Page, expect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.accounts.servers import Provider, running
from tests.browser.acting import age_session, asks, drain, person, post, shell, signed_client
from tests.browser.steps import PASSWORD
from tests.stack import ROOT, Stack, eventually, new_stack

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


@pytest.fixture(scope="module")
def product(issuer: Provider) -> Iterator[Stack]:
    """The product with one inner address opened to it: the issuer's."""
    stack = new_stack(rate=5)
    stack.environment["PILOTHOUSE_OUTBOUND_ALLOW"] = issuer.address
    stack.environment["PILOTHOUSE_AUDIT_SINK"] = str(stack.home.parent / "sink")
    try:
        stack.begin()
        yield stack
    finally:
        if stack.process is not None:
            stack.end()
        for process in stack.processes():  # what a start that failed half-way has left
            process.kill()
        shutil.rmtree(stack.home.parent, ignore_errors=True)


def test_the_files_of_secrets_are_made_at_the_first_start_and_are_their_owners_alone(product: Stack) -> None:
    files = [product.home / "secrets" / "vault.json"]
    files.append(eventually(lambda: next((product.home / "audit").glob("signing.key"), None), seconds=90, what="a key"))
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600, 0o600]
    assert httpx.get(f"{product.web}/.well-known/jwks.json", timeout=30).json()["keys"]


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


def test_a_team_its_robot_and_a_trust_are_made_by_clicks(page: Page, product: Stack, issuer: Provider) -> None:
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


def test_a_job_trades_its_identity_once_for_a_token_of_fifteen_minutes(product: Stack, issuer: Provider) -> None:
    claims = {"aud": "pilothouse", "repository_id": "734501", "environment": "release", "ref": "refs/heads/main"}
    identity = issuer.sign(claims)

    def exchange(token: str) -> httpx.Response:
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "subject_token": token,
        }
        return httpx.post(f"{product.web}/api/v1/auth/token-exchange", data=form, timeout=30)

    answer = exchange(identity)
    assert (answer.status_code, answer.json()["expires_in"]) == (200, 900), answer.text
    token = answer.json()["access_token"]
    keys = httpx.get(f"{product.web}/.well-known/jwks.json", timeout=30).json()
    public = jwt.PyJWKSet.from_dict(keys)[jwt.get_unverified_header(token)["kid"]].key
    read = jwt.decode(token, public, algorithms=["RS256"], audience=product.web, issuer=product.web)
    assert read["exp"] - read["iat"] == 900
    me = asks(product, token).json()
    assert (me["kind"], me["username"], me["roles"]) == ("ci", "fraud.ci", ["engineer"])
    assert exchange(identity).json()["error"] == "invalid_grant", "an identity is taken once"
    assert exchange(issuer.sign({**claims, "ref": "refs/heads/other"})).status_code == 400
    assert "/jwks" in issuer.asked, "the key was fetched from the issuer, over HTTP"


def test_a_trust_that_ends_ends_its_tokens(page: Page, product: Stack, issuer: Provider) -> None:
    claims = {"aud": "pilothouse", "repository_id": "734501", "environment": "release", "ref": "refs/heads/main"}
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "subject_token": issuer.sign(claims),
    }
    token = httpx.post(f"{product.web}/api/v1/auth/token-exchange", data=form, timeout=30).json()["access_token"]
    assert asks(product, token).status_code == 200
    page.goto("/trusts/")
    page.locator("summary", has_text="Stop trusting").click()
    page.get_by_role("button", name="Stop trusting").click()
    expect(page.get_by_role("status")).to_contain_text("not trusted any more")
    assert asks(product, token).status_code == 401


def test_a_key_is_replaced_with_a_day_of_overlap_and_limits_are_kept(page: Page, product: Stack) -> None:
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
    assert [asks(product, key).status_code for key in (old, new)] == [200, 200]
    page.goto("/account/")
    panel = page.locator(f"#revoke-{old.split('_')[1]}")
    panel.locator("summary").click()
    panel.get_by_role("button").click()
    assert [asks(product, key).status_code for key in (old, new)] == [401, 200]


def test_an_expired_key_and_one_from_the_wrong_network_are_refused(product: Stack) -> None:
    made = """
u = User.objects.get(username="ana"); a = actor_of(u)
t, late = token_make(actor=a, user=u, label="late", roles=frozenset({Role.ENGINEER}))
ApiToken.objects.filter(pk=t.pk).update(expires_at=now() - timedelta(seconds=1))
_, away = token_make(actor=a, user=u, label="away", roles=frozenset({Role.ENGINEER}), networks=["10.0.0.0/8"])
_, here = token_make(actor=a, user=u, label="here", roles=frozenset({Role.ENGINEER}), networks=["127.0.0.0/8"])
print(late, away, here)
"""
    answers = [asks(product, key) for key in shell(product, made).split()]
    assert [answer.status_code for answer in answers] == [401, 401, 200]
    assert "expired" in answers[0].json()["detail"]
    assert "address" in answers[1].json()["detail"]


def test_what_was_typed_survives_the_confirmation(page: Page, product: Stack) -> None:
    page.goto("/account/")
    form = page.locator("form[action='/account/keys/']")
    form.get_by_label("Name").fill("half typed")
    form.locator("input[name=roles][value=engineer]").check()
    age_session(product, page)
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
    assert shell(product, "print(ApiToken.objects.filter(label='half typed').count())") == "1"


def test_a_session_that_is_ended_is_out_at_its_next_request_and_off_its_socket(product: Stack) -> None:
    person(product, "olga", "operator")
    with closing(signed_client(product, "olga")) as here, closing(signed_client(product, "olga")) as there:
        address = product.web.replace("http", "ws") + "/live"
        headers = {"Cookie": f"sessionid={there.cookies['sessionid']}"}
        with connect(address, additional_headers=headers, origin=Origin(product.web), open_timeout=60) as socket:
            socket.send('{"subscribe": ["fleet"]}')
            assert post(here, "/account/sessions/end-others", {}).status_code == 302
            assert there.get("/account/").headers["Location"].startswith("/sign-in")
            with pytest.raises(ConnectionClosed):
                drain(socket)
            assert socket.close_code == 4401
        assert here.get("/account/").status_code == 200


def test_whoever_guesses_is_slowed_down_and_the_right_password_too(product: Stack) -> None:
    person(product, "ursula", "viewer")
    with httpx.Client(base_url=product.web, timeout=60) as client:
        client.get("/sign-in")
        said = [post(client, "/sign-in", {"username": "ursula", "password": f"wrong {n}"}) for n in range(11)]
        assert {answer.status_code for answer in said[:10]} == {403}
        assert "Too many failed attempts" in said[10].text
        right = post(client, "/sign-in", {"username": "ursula", "password": PASSWORD})
        assert "Too many failed attempts" in right.text


def test_a_role_holds_from_the_next_request_on_and_buttons_say_why_and_who(
    page: Page, product: Stack, chromium: Browser
) -> None:
    person(product, "vic", "viewer")
    context = chromium.new_context(base_url=product.web)
    other = context.new_page()
    other.goto("/sign-in")
    other.get_by_label("Name").fill("vic")
    other.get_by_label("Password").fill(PASSWORD)
    other.get_by_role("button", name="Sign in", exact=True).click()
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


def test_the_first_link_is_spent_and_the_first_person_is_told_to_share_the_roles(page: Page, product: Stack) -> None:
    assert httpx.get(product.link, timeout=30).status_code == 404
    page.goto("/people/")
    expect(page.get_by_role("note")).to_contain_text("One account ships and administers")


def test_every_kind_of_page_stands_behind_its_headers(page: Page, product: Stack) -> None:
    cookies = {one["name"]: one["value"] for one in page.context.cookies()}
    with httpx.Client(base_url=product.web, timeout=30, cookies=cookies) as client:
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


def test_an_export_verifies_offline_and_a_touched_one_names_the_entry(page: Page, product: Stack) -> None:
    out = product.home.parent
    shell(product, "from apps.audit.tasks import *; print('ok')")
    key = shell(
        product,
        "u = account_create(actor=SYSTEM, username='audrey', password='a long sentence',"
        " roles=frozenset({Role.AUDITOR}));"
        "print(token_make(actor=actor_of(u), user=u, label='export', roles=frozenset({Role.AUDITOR}))[1])",
    )
    sink = eventually(lambda: next((out / "sink").glob("checkpoints.jsonl"), None), seconds=120, what="a checkpoint")
    export = out / "audit.jsonl"
    export.write_bytes(asks(product, key, "audit/export").content)

    def verify(file: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli.main", "audit", "verify", str(file)]
        trusted = ["--checkpoints", str(sink), "--keys", str(product.home / "audit" / "keys.json")]
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


def test_a_second_start_goes_on_and_no_log_of_it_all_holds_a_secret(page: Page, product: Stack) -> None:
    context = page.context
    key = shell(
        product,
        "u = User.objects.get(username='ana');"
        "print(token_make(actor=actor_of(u), user=u, label='kept', roles=frozenset({Role.ENGINEER}))[1])",
    )
    assert asks(product, key).status_code == 200
    cookies = {one["name"]: one["value"] for one in context.cookies()}
    assert product.end() == 0
    product.begin()
    assert product.link == product.web, "there is an account, so no link makes another first one"
    assert asks(product, key).status_code == 200
    assert httpx.get(f"{product.web}/account/", cookies=cookies, timeout=30).status_code == 200
    secrets = {"the first link": urlsplit(product.lines[0]).path, "a password": PASSWORD, "a key": key.split("_")[2]}
    secrets["the first link"] = next(line for line in product.lines if "/setup/" in line).rpartition("/")[2]
    secrets["a session"] = cookies["sessionid"]
    for name in ("agent.token", "ingest.token", "secret_key"):
        secrets[name] = (product.home / "secrets" / name).read_text().strip()
    found = [
        (what, log.name)
        for log in (product.home / "logs").rglob("*.log")
        for what, secret in secrets.items()
        if secret in log.read_text(errors="replace")
    ]
    assert found == []
