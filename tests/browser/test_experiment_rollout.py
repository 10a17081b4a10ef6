"""A/B by clicks: the wizard sizes it, its readouts decide the rollout, the experiment's page says who runs it.

Slow, since each piece is proved without a whole product as well: the wizard and its panel in a browser by
test_experiment_commands.py, what is started from it and both pages by tests/web/test_trial_pages.py, two served
versions of which a readout ships the better one by tests/scenarios/test_experiment_step_real.py, all other ends by
tests/scenarios/test_experiment_steps.py.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.axe import broken_rules
from tests.browser.steps import PATIENCE_MS, ROLLOUT_PAGE
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(600)]


def test_an_experiment_is_designed_in_the_wizard_and_decides_the_rollout(page: Page, product: Stack) -> None:
    page.set_default_timeout(PATIENCE_MS)
    page.goto("/")
    page.get_by_role("link", name="Roll out 1.1.0", exact=True).first.click()
    page.locator("label.choice", has_text="A/B").click()
    page.wait_for_url(re.compile("strategy=ab"))
    page.get_by_label("The new version is better when").select_option("slow")
    page.wait_for_url(re.compile("ab_metric=slow"))
    # the numbers follow what is typed, without a click
    page.get_by_label("Today it happens in").fill("3")
    page.get_by_label("An improvement worth finding").fill("20")
    expect(page.locator("#plan-so-far")).to_contain_text("Finds a change of 20 %", timeout=60_000)
    how = page.url.split(product.web)[-1]
    page.get_by_label("At least").fill("0")
    page.get_by_label("Planned units").fill("1500")
    page.get_by_text("Errors, looks, hypothesis").click()
    page.get_by_label("Read every").fill("5 s")
    page.get_by_role("button", name="Next: Guardrails").click()
    page.get_by_label("Latency").uncheck()
    page.get_by_role("button", name="Next: Plan").click()
    expect(page.locator("main")).to_contain_text("No minimum time: for trying out", timeout=60_000)
    page.get_by_role("button", name="Next: Start").click()
    page.get_by_role("button", name="Start the rollout of 1.1.0").click()
    page.wait_for_url(ROLLOUT_PAGE)
    rollout = page.url
    expect(page.get_by_label("The experiment")).to_contain_text(re.compile(r"at look [1-9]"), timeout=240_000)
    address = page.get_by_role("link", name="Open the experiment").get_attribute("href")
    assert address is not None
    page.goto(address)
    expect(page.locator("main")).to_contain_text("A rollout runs this experiment as a step of its plan")
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_disabled()
    for theme in ("light", "dark"):
        assert broken_rules(page, (how, address), theme) == {}
    page.goto(rollout)
    # two versions of one speed, or a better one: whichever the numbers said, the rollout did
    expect(page.locator(".verdict")).to_contain_text(re.compile("was rolled back|was promoted"), timeout=300_000)
    expect(page.locator("ol.log")).to_contain_text(re.compile("the experiment (says ship|is inconclusive|says roll)"))
