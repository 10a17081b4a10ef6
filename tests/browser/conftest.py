"""One running product and one real Chromium for the journeys; a journey that leaves something in the console fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.browser.served import server, sessions_end, web
from tests.browser.steps import FLAGS, PATIENCE_MS, chromium_path, first_account
from tests.stack import Stack, running_stack

__all__ = ["server", "sessions_end", "web"]
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def product() -> Iterator[Stack]:
    with running_stack(rate=40) as stack:
        yield stack


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    # Playwright's loop runs in this thread until the block ends: for one module only, or every async test after it
    # would find a running loop. Django would refuse queries meanwhile; none are made, but the test database is set up.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
            yield browser
            browser.close()
    finally:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture(scope="module")
def signed_in(product: Stack, chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first account, made by clicks from the one link that `make up` printed; answers a saved session."""
    context = chromium.new_context()
    page = context.new_page()
    first_account(page, product.link)
    state = tmp_path_factory.mktemp("session") / "state.json"
    context.storage_state(path=state)
    context.close()
    return state


def is_fault(message: ConsoleMessage) -> bool:
    """Whoever leaves a page leaves its requests behind: htmx says so, and it is no fault. A bad answer is
    ``htmx:responseError``, and the browser reports it as well."""
    abandoned = ("htmx:afterRequest", "htmx:sendAbort", "htmx:sendError")
    return message.type in {"error", "warning"} and not message.text.startswith(abandoned)


@pytest.fixture
def page(product: Stack, chromium: Browser, signed_in: Path) -> Iterator[Page]:
    """A signed-in page; its console must be empty at the end."""
    context: BrowserContext = chromium.new_context(
        viewport={"width": 1440, "height": 900}, storage_state=signed_in, base_url=product.web
    )
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if is_fault(message) else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    context.close()
    assert said == []
