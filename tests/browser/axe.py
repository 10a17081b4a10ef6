"""What axe finds wrong with a page for people who see, hear or point otherwise."""

from __future__ import annotations

from functools import cache
from importlib import resources

from playwright.sync_api import Page


@cache
def _source() -> str:
    return resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def violations(page: Page) -> list[str]:
    """Each rule that is broken, with the first elements that break it. Runs beside the page's own policy: it is
    evaluated by the browser's debugger."""
    page.evaluate(_source())
    found = page.evaluate(
        "axe.run().then(done => done.violations.map("
        "one => [one.id, one.nodes.slice(0, 3).map(node => node.target.join(' '))]))"
    )
    return [f"{rule}: {', '.join(targets)}" for rule, targets in found]


def broken_rules(page: Page, paths: tuple[str, ...], theme: str) -> dict[str, list[str]]:
    """Page -> what is wrong with it in that theme; empty when nothing is."""
    page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
    found = {}
    for path in paths:
        page.goto(path)
        if broken := violations(page):
            found[path] = broken
    return found
