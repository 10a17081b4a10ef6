"""From the fleet page to the end of a rollout, by clicks, on the running product and in a real Chromium.

Nothing here calls the API: what the journey did is read off the pages and, at the end, off the gateway's own answers.
"""

from __future__ import annotations

import re
from collections import Counter
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.axe import broken_rules
from tests.browser.steps import PASSWORD, start_from_the_fleet
from tests.stack import Stack, eventually

pytestmark = [pytest.mark.browser, pytest.mark.real, pytest.mark.timeout(1200)]


def serving_versions(product: Stack, requests: int = 40) -> Counter[str]:
    """Which versions answer now, by the header of real answers."""
    with httpx.Client(timeout=10) as client:
        url = f"{product.gateway}/serve/late-arrival/v2/models/late-arrival"
        return Counter(client.get(url).headers.get("x-pilothouse-version", "") for _ in range(requests))


def test_wizard_to_promoted(page: Page, product: Stack) -> None:
    start_from_the_fleet(page, "1.1.0")
    expect(page.locator("main")).to_contain_text(re.compile(r"ready and warm"), timeout=60_000)
    # No reload from here on: the page follows the rollout by itself.
    expect(page.locator(".verdict")).to_contain_text(re.compile("promoted", re.IGNORECASE), timeout=600_000)
    expect(page.locator("main")).to_contain_text("bakes 15 s")
    page.goto("/")
    expect(page.locator("main")).to_contain_text("1.1.0")
    assert serving_versions(product) == {"1.1.0": 40}


def test_wizard_to_rolled_back_with_the_reason_in_numbers(page: Page, product: Stack) -> None:
    stable = next(iter(serving_versions(product, 1)))
    start_from_the_fleet(page, "1.2.0")
    expect(page.locator(".verdict")).to_contain_text(re.compile("rolled back", re.IGNORECASE), timeout=180_000)
    expect(page.locator(".verdict")).to_contain_text(re.compile(r"slow share .* over 500 ms.* limit 1 %"))
    eventually(lambda: serving_versions(product) == {stable: 40}, seconds=15, what=f"all traffic back on {stable}")


def test_a_version_that_breaks_callers_is_refused_with_its_fields_named(page: Page) -> None:
    page.goto("/models/late-arrival/versions/2.0.0/")
    expect(page.locator("main")).to_contain_text("airline")
    page.goto("/rollouts/new/?model=late-arrival&version=2.0.0&endpoint=late-arrival&step=start")
    expect(page.locator("main")).to_contain_text("airline")
    start = page.get_by_role("button", name=re.compile("^Start the rollout"))
    assert start.count() == 0 or start.is_disabled()


def test_pausing_and_rolling_back_by_hand(page: Page, product: Stack) -> None:
    stable = next(iter(serving_versions(product, 1)))
    start_from_the_fleet(page, "1.1.1")
    page.get_by_role("button", name="Pause", exact=True).click(timeout=60_000)
    expect(page.locator(".verdict")).to_contain_text(re.compile("paused", re.IGNORECASE), timeout=30_000)
    back = page.get_by_role("button", name=re.compile("^Roll back to")).or_(
        page.locator("summary", has_text=re.compile("^Roll back to"))
    )
    back.first.click()
    panel = page.locator("details[open] button[type=submit]")
    if panel.count():
        panel.first.click()
    expect(page.locator(".verdict")).to_contain_text(
        re.compile("rolled back|aborted|failed", re.IGNORECASE), timeout=90_000
    )
    eventually(lambda: serving_versions(product) == {stable: 40}, seconds=15, what=f"all traffic back on {stable}")


PAGES = (
    "/",
    "/endpoints/late-arrival/",
    "/rollouts/",
    "/models/",
    "/models/late-arrival/",
    "/account/",
    "/settings/targets/",
    "/settings/freezes/",
    "/rollouts/new/?model=late-arrival&version=2.0.0&step=where",
    "/rollouts/new/?model=late-arrival&version=1.1.1&endpoint=late-arrival&step=plan",
)


def test_no_page_is_wider_than_its_window(page: Page) -> None:
    wide = []
    for path in PAGES:
        page.goto(path)
        for width in (1440, 800, 360):
            page.set_viewport_size({"width": width, "height": 800})
            for _ in range(100):  # charts follow a new width a moment later
                seen = page.evaluate("document.documentElement.scrollWidth")
                if seen <= width:
                    break
                page.wait_for_timeout(100)
            else:
                wide.append((path, width, seen))
    assert wide == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(page: Page, theme: str) -> None:
    assert broken_rules(page, PAGES, theme) == {}


def test_the_keyboard_alone_finds_goes_and_asks_for_help(page: Page) -> None:
    page.goto("/")
    page.keyboard.press("Control+k")
    expect(page.get_by_role("combobox")).to_be_focused()
    page.keyboard.type("1.2 late")
    expect(page.get_by_role("option", selected=True)).to_contain_text("late-arrival 1.2.0")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/models/late-arrival/versions/1.2.0/"))
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    page.keyboard.press("g")
    page.keyboard.press("s")
    page.wait_for_url(re.compile("/settings/targets/"))
    page.keyboard.press("g")
    page.keyboard.press("f")
    page.wait_for_url(re.compile(r"//[^/]+/$"))  # loaded: a key before that is nobody's
    expect(page.get_by_role("heading", name="Fleet")).to_be_visible()
    page.keyboard.press("j")
    expect(page.locator("tr.is-here")).to_have_count(1)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/endpoints/late-arrival/"))


def test_the_wizard_is_walked_by_keyboard_alone(page: Page) -> None:
    page.goto("/rollouts/new/?model=late-arrival&version=1.1.1&endpoint=late-arrival&step=how")
    for word in ("Next: Guardrails", "Next: Plan", "Next: Start"):
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent.trim()") == word:
                break
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(f"step={word.removeprefix('Next: ').lower()}"))
    expect(page.get_by_role("button", name="Start the rollout of 1.1.1")).to_be_enabled()


def test_the_files_of_secrets_are_made_at_the_first_start_and_are_their_owners_alone(product: Stack) -> None:
    files = [product.home / "secrets" / "vault.json"]
    files.append(eventually(lambda: next((product.home / "audit").glob("signing.key"), None), seconds=90, what="a key"))
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600, 0o600]
    assert httpx.get(f"{product.web}/.well-known/jwks.json", timeout=30).json()["keys"]


def test_the_first_link_is_spent_and_the_first_person_is_told_to_share_the_roles(page: Page, product: Stack) -> None:
    assert httpx.get(product.link, timeout=30).status_code == 404
    page.goto("/people/")
    expect(page.get_by_role("note")).to_contain_text("One account ships and administers")


def test_a_second_start_goes_on_and_no_log_of_it_all_holds_a_secret(page: Page, product: Stack) -> None:
    context = page.context
    product.make_key()
    key = product.token
    assert product.api("GET", "me").status_code == 200
    cookies = {one["name"]: one["value"] for one in context.cookies()}
    assert product.end() == 0
    product.begin()
    assert product.link == product.web, "there is an account, so no link makes another first one"
    assert product.api("GET", "me").status_code == 200
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
