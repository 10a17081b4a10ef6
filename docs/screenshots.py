"""Takes the pictures of the README from the running product: `make screenshots`. Needs Chromium."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser.conftest import FLAGS, PASSWORD  # noqa: E402
from tests.stack import running_stack  # noqa: E402

IMAGES = ROOT / "docs" / "images"


def first_account(page: Page, link: str) -> None:
    """Through the one link that `make up` printed."""
    page.goto(link)
    page.fill("input[name=username]", "ana")
    page.fill("input[name=password]", PASSWORD)
    page.fill("input[name=again]", PASSWORD)
    page.get_by_role("button", name="Create the account").click()
    page.wait_for_load_state("networkidle")


def start(page: Page, version: str) -> None:
    """The fleet page's offer, through the wizard at the fast pace."""
    page.get_by_role("link", name=f"Roll out {version}").first.click()
    page.get_by_label("Pace").select_option("fast")
    page.wait_for_load_state("networkidle")
    for name in ("Next: Guardrails", "Next: Plan", "Next: Start", f"Start the rollout of {version}"):
        page.get_by_role("button", name=name).click()
        page.wait_for_load_state("load")


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("Chromium is not installed (Debian: apt-get install chromium).")
    IMAGES.mkdir(exist_ok=True)
    with running_stack(rate=40) as stack, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_context(viewport={"width": 1440, "height": 1080}, base_url=stack.web).new_page()
        first_account(page, stack.link)
        page.wait_for_timeout(60_000)  # a minute of traffic, so that the charts have something to show
        page.goto("/")
        start(page, "1.1.0")
        page.locator(".verdict", has_text="1.1.0 serves 50 %").wait_for(timeout=180_000)
        page.wait_for_timeout(12_000)
        page.screenshot(path=IMAGES / "rollout.png")
        page.goto("/endpoints/late-arrival/")
        page.wait_for_timeout(5_000)
        page.screenshot(path=IMAGES / "endpoint.png")
        browser.close()


if __name__ == "__main__":
    main()
