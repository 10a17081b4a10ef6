"""A model's life by clicks: registered from a folder, compared, promoted by a request; every page looked at by axe."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.axe import broken_rules
from tests.registry.trees import INPUTS, make_artifact
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.real, pytest.mark.timeout(420)]

WIDER = (*INPUTS, {"type": "double", "name": "wind", "required": False})
PAGES = (
    "/models/",
    "/models/late-arrival/",
    "/models/late-arrival/versions/1.1.0/",
    "/models/late-arrival/compare/?a=1.1.0&b=2.0.0",
    "/models/-/register/?model=late-arrival",
    "/models/-/imports/",
)


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
    # No reload: the page follows the worker that checks the files.
    expect(
        page.get_by_text("kept in the store").or_(page.locator(".status.ok", has_text="verified")).first
    ).to_be_visible(timeout=90_000)
    page.goto(f"/models/fraud/versions/{number}/")
    expect(page.get_by_role("heading", name=f"fraud {number}")).to_be_visible()


def test_register_compare_and_ask_for_the_promotion(page: Page, product: Stack, tmp_path: Path) -> None:
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


def test_no_registry_page_is_wider_than_its_window(page: Page) -> None:
    wide = []
    for path in PAGES:
        page.goto(path)
        for width in (1440, 800, 390):
            page.set_viewport_size({"width": width, "height": 800})
            if page.evaluate("document.documentElement.scrollWidth") > width:
                wide.append((path, width))
    assert wide == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_on_any_registry_page(page: Page, theme: str) -> None:
    assert broken_rules(page, PAGES, theme) == {}
