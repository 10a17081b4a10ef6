"""The clicks that every journey begins with; the journeys and docs/screenshots.py share them."""

from __future__ import annotations

import re
import shutil

from playwright.sync_api import Page, expect

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PASSWORD = "a long sentence for one test"
PATIENCE_MS = 60_000
"""Simulations, readouts and models share the machine with the browser."""
ROLLOUT_PAGE = re.compile(r"/rollouts/ro_[0-9a-z]{26}/")


def chromium_path() -> str | None:
    """Where Chromium is; None when it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def first_account(page: Page, link: str) -> None:
    """Through the one link that `make up` printed; ends signed in, on the fleet page."""
    page.goto(link)
    page.get_by_label("Name").fill("ana")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password again").fill(PASSWORD)
    page.get_by_role("button", name="Create the account").click()
    expect(page.get_by_role("heading", name="Fleet")).to_be_visible(timeout=30_000)


def start_from_the_fleet(page: Page, version: str) -> None:
    """Fleet -> "Roll out …" -> the wizard at the fast pace -> start; ends on the rollout's page."""
    page.goto("/")
    page.get_by_role("link", name=f"Roll out {version}", exact=True).first.click()
    pace = page.get_by_label("Pace")
    if pace.input_value() != "fast":  # the fleet's own link chooses it in development
        pace.select_option("fast")
        page.wait_for_url(re.compile("profile=fast"))
    page.get_by_role("button", name="Next: Guardrails").click()
    page.get_by_role("button", name="Next: Plan").click()
    expect(page.locator("main")).to_contain_text("The way back")
    page.get_by_role("button", name="Next: Start").click()
    page.get_by_role("button", name=f"Start the rollout of {version}").click()
    page.wait_for_url(ROLLOUT_PAGE)
