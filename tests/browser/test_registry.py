"""A model's life by clicks: registered from a folder, imported, compared, promoted by a request; every page is looked
at by axe in both themes and in three widths.

The web process is the product's own, in a thread of the test. What a worker would do is done by the test, by the
functions that the worker's tasks call.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as product_settings
from django.test import Client
from playwright.sync_api import Page, expect, sync_playwright

from apps.accounts.domain.roles import Role
from apps.registry.models import ImportJob
from apps.registry.services.importing import import_run
from tests.api.world import World, make_world
from tests.audit.flushable import django_db_setup
from tests.browser.conftest import is_fault
from tests.browser.steps import FLAGS, PATIENCE_MS, chromium_path
from tests.browser.test_experiment_pages import looked_at
from tests.cast import make_user
from tests.registry.files import work
from tests.registry.test_import_files import home, stock
from tests.registry.trees import INPUTS, make_artifact

__all__ = ["django_db_setup", "home", "stock"]
pytestmark = [pytest.mark.browser, pytest.mark.real, pytest.mark.timeout(600)]

WIDER = (*INPUTS, {"type": "double", "name": "wind", "required": False})
PAGES = {
    "models": "/models/",
    "model": "/models/late-arrival/",
    "version": "/models/late-arrival/versions/1.1.0/",
    "compare": "/models/late-arrival/compare/?a=1.1.0&b=2.0.0",
    "register": "/models/-/register/?model=late-arrival",
    "imports": "/models/-/imports/",
}


@pytest.fixture
def world(transactional_db: None, tmp_path: Path, settings: Any) -> World:
    """``late-arrival`` 1.0.0, 1.1.0 and 2.0.0, and an endpoint that runs the first."""
    settings.PILOTHOUSE_HOME = tmp_path / "product"
    settings.PILOTHOUSE_VAULT_FILE = tmp_path / "product" / "vault.json"
    return make_world(tmp_path)


@pytest.fixture
def page(world: World, web: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """A page of somebody with every role; what it left in the console fails the test."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    client = Client()
    client.force_login(make_user("ana", frozenset(Role)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        context = browser.new_context(viewport={"width": 1440, "height": 900}, base_url=web)
        name = product_settings.SESSION_COOKIE_NAME
        context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": web}])
        found = context.new_page()
        found.set_default_timeout(PATIENCE_MS)
        said: list[str] = []
        # A refused form is answered with 422, and the browser tells the console of it.
        found.on("console", lambda one: said.append(one.text) if is_fault(one) and " 422 " not in one.text else None)
        found.on("pageerror", lambda error: said.append(str(error)))
        yield found
        found.goto("about:blank")
        browser.close()
    assert said == []


def packed(folder: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in sorted(one for one in folder.rglob("*") if one.is_file()):
            archive.write(path, f"model/{path.relative_to(folder).as_posix()}")
    return content.getvalue()


def register(page: Page, folder: Path, number: str) -> None:
    """Upload, check, register; ends on the page of the verified version."""
    page.goto("/models/-/register/")
    page.get_by_label("Model", exact=True).fill("fraud")
    page.get_by_label("Upload a zip, or the files").set_input_files(
        [{"name": "model.zip", "mimeType": "application/zip", "buffer": packed(folder)}]
    )
    page.get_by_role("button", name="Check", exact=True).click()
    expect(page.get_by_role("heading", name="Ready to register")).to_be_visible()
    expect(page.locator("aside .big")).to_have_text(number)
    page.get_by_role("button", name=f"Register fraud {number}").click()
    page.wait_for_url(re.compile("/models/fraud/versions/"))
    work()
    # No reload: the page follows the worker that checks the files.
    expect(
        page.get_by_text("kept in the store").or_(page.locator(".status.ok", has_text="verified")).first
    ).to_be_visible(timeout=90_000)
    page.goto(f"/models/fraud/versions/{number}/")
    expect(page.get_by_role("heading", name=f"fraud {number}")).to_be_visible()


def test_register_compare_and_ask_for_the_promotion(page: Page, tmp_path: Path) -> None:
    register(page, make_artifact(tmp_path / "one", weights=b"text one\n"), "1.0.0")
    page.locator("summary", has_text="Move an alias here").click()
    page.get_by_label("Alias").fill("champion")
    page.get_by_role("button", name="Move it to 1.0.0").click()
    expect(page.locator(".page-head .tag.strong")).to_have_text("champion")

    register(page, make_artifact(tmp_path / "two", inputs=WIDER, weights=b"text two\n"), "1.1.0")
    page.get_by_role("link", name="Compare with 1.0.0").click()
    expect(page.locator("main")).to_contain_text("Every call made for 1.0.0 is answered by 1.1.0.")
    page.get_by_role("link", name="Swap the sides").click()
    page.wait_for_url(re.compile("a=1.1.0&b=1.0.0"))

    page.goto("/models/fraud/versions/1.1.0/")
    page.locator("summary", has_text="Move an alias here").click()
    page.get_by_label("Alias").fill("champion")
    page.get_by_role("button", name="Move it to 1.1.0").click()
    page.wait_for_url(re.compile("/models/promotions/"))
    expect(page.get_by_role("heading", name="Move champion of fraud")).to_be_visible()
    expect(page.locator("main")).to_contain_text("for champion to move from 1.0.0 to 1.1.0")
    page.goto("/models/fraud/")
    expect(page.locator(".note.attention")).to_contain_text("wants champion to move from 1.0.0 to 1.1.0")


def test_the_search_and_the_rows_are_reached_by_the_keyboard(page: Page) -> None:
    page.goto("/models/")
    page.keyboard.press("/")
    expect(page.get_by_label("Search", exact=True)).to_be_focused()
    page.keyboard.type("late")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("q=late"))
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/models/late-arrival/"))


def test_axe_finds_nothing_on_any_registry_page_and_none_is_wider_than_its_window(page: Page) -> None:
    for name, path in PAGES.items():
        looked_at(page, path, name)


def test_an_import_is_begun_followed_to_its_end_and_says_which_files_are_missing(
    page: Page, stock: str, home: Path, settings: Any
) -> None:
    settings.PILOTHOUSE_OUTBOUND_ALLOW = ()
    page.goto("/models/-/imports/")
    expect(page.get_by_label("Bring the files along")).to_be_checked()
    page.get_by_label("The server's address").fill(stock)
    page.get_by_role("button", name="Begin the import").click()
    line = f"PILOTHOUSE_OUTBOUND_ALLOW={stock.removeprefix('http://')}"
    expect(page.locator("form .copy pre")).to_have_text(line)
    expect(page.get_by_label("The server's address")).to_have_value(stock)
    assert not ImportJob.objects.exists()

    settings.PILOTHOUSE_OUTBOUND_ALLOW = (stock.removeprefix("http://"),)  # as if started with that line
    page.get_by_role("button", name="Begin the import").click()
    page.wait_for_url(re.compile("/models/-/imports/im_"))
    expect(page.locator("main")).to_contain_text("about to begin")
    expect(page.locator(".message")).to_have_count(0)
    import_run(ImportJob.objects.get().pk)
    expect(page.locator("main")).to_contain_text("The files of 4 versions still come")
    work()
    expect(page.locator("main")).to_contain_text("done, but for some files")
    expect(page.get_by_role("heading", name="Without their files")).to_contain_text("2 versions")
    expect(page.locator("main")).to_contain_text(f"{home}/shelf/three, a path on its own disk")
    expect(page.locator("[data-live-indicator]")).to_have_count(0)
    place = page.url
    looked_at(page, place, "import")
    looked_at(page, "/models/by-hand/versions/1/", "version-without-files")

    settings.PILOTHOUSE_ARTIFACT_SOURCES = ((home / "shelf").as_uri(),)
    page.goto(place)
    page.get_by_role("button", name="Run now").click()
    expect(page.locator("main")).to_contain_text("run 2 starts")
    looked_at(page, place, "import-waiting")
    work()
    expect(page.get_by_role("heading", name="Without their files")).to_contain_text("1 version")
    expect(page.locator("main")).to_contain_text("Nothing differed")
