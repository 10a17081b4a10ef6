"""Takes the pictures of the README from the running product: `make screenshots`. Needs Chromium."""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser.steps import FLAGS, chromium_path, first_account, start_from_the_fleet  # noqa: E402
from tests.stack import running_stack  # noqa: E402

IMAGES = ROOT / "docs" / "images"


def main() -> None:
    chromium = chromium_path()
    if chromium is None:
        sys.exit("Chromium is not installed (Debian: apt-get install chromium).")
    IMAGES.mkdir(exist_ok=True)
    with running_stack(rate=40) as stack, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_context(viewport={"width": 1440, "height": 1080}, base_url=stack.web).new_page()
        first_account(page, stack.link)
        page.wait_for_timeout(60_000)  # a minute of traffic, so that the charts have something to show
        start_from_the_fleet(page, "1.1.0")
        page.locator(".verdict", has_text="1.1.0 serves 50 %").wait_for(timeout=180_000)
        page.wait_for_timeout(12_000)
        page.screenshot(path=IMAGES / "rollout.png")
        page.goto("/endpoints/late-arrival/")
        page.wait_for_timeout(5_000)
        page.screenshot(path=IMAGES / "endpoint.png")
        browser.close()


if __name__ == "__main__":
    main()
