"""An experiment that runs, extended and stopped by clicks: seen on its page, in the API and in the audit log.

Its own web server and the laboratory of test_experiment_pages.py behind it.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import Page, expect

from apps.accounts.domain.roles import Role
from apps.experiments.models import Experiment
from apps.experiments.selectors import experiment_get, periods_of
from tests.browser.axe import violations
from tests.browser.test_experiment_pages import _picture, django_db_setup, lab, page
from tests.cast import make_user
from tests.experiments.lab import Lab

__all__ = ["django_db_setup", "lab", "page"]
pytestmark = [pytest.mark.browser, pytest.mark.real, pytest.mark.timeout(600)]
WHY_MORE = "Half of the users are too few before the holidays."
WHY_STOP = "The new version is withdrawn."


def collecting(lab: Lab) -> Experiment:
    """Half of all users take part; two days of them are in, and nothing is sure."""
    experiment = lab.running(coverage_bp=5000, planned_total=8000, minimum_days=14)
    lab.clock.forward(3600)
    lab.sell(experiment, 900, {"control": 0.2, "treatment": 0.21})
    lab.clock.forward(2 * 86_400)
    lab.look(experiment)
    return experiment


def of_api(page: Page, experiment: Experiment) -> dict[str, Any]:
    answer = page.request.get(f"/api/v1/experiments/{experiment.pk}")
    assert answer.status == 200, answer.text()
    found: dict[str, Any] = answer.json()
    return found


def of_log(experiment: Experiment, verb: str) -> dict[str, Any]:
    """The one entry of that verb about the experiment, as an auditor is answered."""
    auditor = Client()
    auditor.force_login(make_user("audrey", frozenset({Role.AUDITOR})))
    answer = auditor.get("/api/v1/audit", {"subject": experiment.pk, "verb": verb})
    assert answer.status_code == 200, answer.content
    (entry,) = answer.json()["items"]
    found: dict[str, Any] = entry
    return found


def test_a_running_experiment_is_extended_by_clicks(page: Page, lab: Lab) -> None:
    experiment = collecting(lab)
    page.goto(f"/experiments/{experiment.pk}/")
    page.locator("#ask-extend > summary").click()
    panel = page.locator("#ask-extend .panel")
    expect(panel.locator("#extend-total")).to_have_count(0)  # a boundary spends its error by the planned units
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert panel.evaluate("panel => panel.scrollWidth <= panel.clientWidth"), f"wider than its panel at {width}"
        _picture(page, f"extend-{width}")
    page.set_viewport_size({"width": 1440, "height": 900})
    panel.get_by_label("At least so many days").fill("21")
    panel.get_by_label("Part of all units").fill("80")
    assert violations(page) == []
    _picture(page, "extend-asked")
    panel.get_by_role("button", name="Extend").click()
    # the browser itself asks for the reason: nothing was sent
    assert panel.locator("#reason-extend").evaluate("field => field.validity.valueMissing")
    assert experiment_get(experiment.pk).minimum_days == 14
    panel.get_by_label("Reason").fill(WHY_MORE)
    panel.get_by_role("button", name="Extend").click()
    expect(page.locator("main")).to_contain_text(WHY_MORE, timeout=30_000)
    expect(page.get_by_label("Progress", exact=True)).to_contain_text("of at least 21")
    page.locator("#ask-extend > summary").click()
    expect(page.locator("#ask-extend .panel")).to_contain_text("now 21")
    expect(page.locator("#ask-extend .panel")).to_contain_text(re.compile(r"now 80\s*%"))
    _picture(page, "extended")
    seen = of_api(page, experiment)
    assert (seen["minimum_days"], seen["coverage_bp"], seen["status"]) == (21, 8000, "running")
    assert [period.coverage_bp for period in periods_of(experiment_get(experiment.pk))] == [5000, 8000]
    entry = of_log(experiment, "experiment.extended")
    assert entry["actor"]["label"] == "alice"
    assert WHY_MORE in str(entry["detail"])
    after = entry["detail"]["after"]
    assert (after["minimum_days"], after["coverage_bp"]) == (21, 8000)


def test_a_running_experiment_is_stopped_by_clicks_with_a_reason(page: Page, lab: Lab) -> None:
    experiment = collecting(lab)
    page.goto(f"/experiments/{experiment.pk}/")
    page.locator("#ask-stop > summary").click()
    panel = page.locator("#ask-stop .panel")
    expect(panel).to_contain_text("All traffic goes to 1.0.0, at once.")
    panel.get_by_role("button", name="Stop").click()
    assert panel.locator("#reason-stop").evaluate("field => field.validity.valueMissing")
    assert experiment_get(experiment.pk).status == "running"
    _picture(page, "stop-asked")
    panel.get_by_label("Reason").fill(WHY_STOP)
    panel.get_by_role("button", name="Stop").click()
    expect(page.locator(".verdict")).to_contain_text(
        f"Stopped without a verdict: {WHY_STOP} All traffic", timeout=30_000
    )
    expect(page.get_by_role("button", name="Stop", exact=True)).to_have_count(0)
    assert violations(page) == []
    # what it says once its end is read
    lab.look(experiment_get(experiment.pk))
    page.reload()
    expect(page.get_by_label("What to do")).to_contain_text("it ended with")
    expect(page.locator("main")).not_to_contain_text("days left")
    _picture(page, "stopped")
    seen = of_api(page, experiment)
    assert (seen["status"], seen["ended_at"] is None) == ("stopped", False)
    entry = of_log(experiment, "experiment.stopped")
    assert entry["actor"]["label"] == "alice"
    assert WHY_STOP in str(entry["detail"])
    lab.site.reload()
    assert lab.site.endpoint.traffic_holder == ""  # the endpoint is free for others
    page.goto("/experiments/")
    expect(page.locator("main")).to_contain_text("stopped")


def test_the_wizard_sizes_an_experiment_as_it_is_typed_and_a_canary_carries_none_of_it(page: Page, lab: Lab) -> None:
    endpoint = lab.site.endpoint
    page.goto(f"/rollouts/new/?model={endpoint.model.name}&version=1.1.0&endpoint={endpoint.name}&boxes=1&step=how")
    assert "ab_" not in page.locator("form.wizard-form").inner_html()
    page.locator("label.choice", has_text="A/B").click()
    page.wait_for_url(re.compile("strategy=ab"))
    page.get_by_label("The new version is better when").select_option("slow")
    page.wait_for_url(re.compile("ab_metric=slow"))
    page.get_by_label("An improvement worth finding").fill("40")
    panel = page.locator("#plan-so-far")
    expect(panel).to_contain_text("Finds a change of 40 %", timeout=30_000)  # without a click
    few = panel.locator("b").filter(has_text=re.compile(r"^[\d,]+$")).inner_text()
    page.get_by_label("An improvement worth finding").fill("20")
    expect(panel).to_contain_text("Finds a change of 20 %", timeout=30_000)
    many = panel.locator("b").filter(has_text=re.compile(r"^[\d,]+$")).inner_text()
    assert int(many.replace(",", "")) > 3 * int(few.replace(",", ""))
    expect(panel).to_contain_text(re.compile(r"Times are estimates as of \d\d:\d\d UTC and no part of it"))
    assert violations(page) == []
    _picture(page, "wizard-ab")
    page.locator("label.choice", has_text="Canary").click()
    page.wait_for_url(re.compile("strategy=canary"))
    assert "ab_" not in page.url
    for step in ("Guardrails", "Plan", "Start"):
        page.get_by_role("button", name=f"Next: {step}").click()
        page.wait_for_url(re.compile(f"step={step.lower()}"))
        assert "ab_" not in page.url
    _picture(page, "wizard-canary-start")
