"""The documentation's page in a real browser, under the Content-Security-Policy of every page."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import CHROMIUM

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_the_page_draws_every_operation_and_breaks_no_policy(live_server: Any, tmp_path: Any) -> None:
    from playwright.sync_api import sync_playwright

    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--no-proxy-server"])
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{live_server.url}/api/v1/docs")
        page.wait_for_selector("#operations-tag-rollouts", timeout=120_000)
        page.click("#operations-tag-rollouts")
        page.wait_for_selector("#operations-rollouts-rollout_start", timeout=120_000)
        page.click("#operations-rollouts-rollout_start button.opblock-summary-control")
        page.wait_for_selector("text=expected_plan_hash", timeout=60_000)
        page.screenshot(path=f"{tmp_path}/docs.png")
        browser.close()
    assert complaints == []
