"""A plain experiment by clicks on the running product: designed, tried out, started, read twice and decided.

Two versions are really served. Users ask for their arm, send its header through the gateway, and some of them book: all
numbers come by the doors that callers have. The bundle of the last look is decided again by its own scripts.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import warnings
import zipfile
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from demo.data import replay
from demo.traffic import infer_body
from tests.browser.axe import violations
from tests.browser.steps import PATIENCE_MS
from tests.stack import Stack, eventually

pytestmark = [pytest.mark.browser, pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(900)]

FIRST, USERS = 200, 1_000
EVERY = {"control": 5, "treatment": 3}
"""One of so many users books, by arm."""
EXPERIMENT = re.compile(r"/experiments/(ex_[0-9a-z]{26})/")
PICTURES = os.environ.get("PICTURES_FOLDER", "")


@pytest.fixture(scope="module")
def begun() -> dict[str, str]:
    """What one step hands to the next: the experiment's page."""
    return {}


@pytest.fixture(autouse=True)
def _patient(page: Page) -> None:
    page.set_default_timeout(PATIENCE_MS)


def said(answer: httpx.Response) -> dict[str, Any]:
    assert answer.is_success, answer.text
    return dict(answer.json())


def test_a_plan_is_tried_out_before_it_is_kept(page: Page, begun: dict[str, str]) -> None:
    page.goto("/experiments/new/?endpoint=late-arrival")
    page.get_by_label("Name", exact=True).fill("does 1.1.0 help?")
    page.get_by_label("Compared with what serves").select_option("1.1.0")
    page.get_by_label("What you expect, and why").fill("Fewer wrong answers, so more people book.")
    page.get_by_label("Outcome event").fill("booked")
    page.get_by_label("Today's value").fill("20")
    page.get_by_label("Smallest effect worth finding").fill("50")
    page.get_by_label("Units a day").fill("500")
    page.get_by_text("Error, power, looks, days").click()
    page.get_by_role("textbox", name="At least").fill("0")
    page.get_by_label("Units over both arms").fill(f"{USERS}")
    page.get_by_role("checkbox", name="Latency").uncheck()
    expect(page.locator("#numbers")).to_contain_text("units", timeout=20_000)
    page.get_by_role("button", name="Try it 10,000 times").click()
    expect(page.locator("#study")).to_contain_text("Tried 10,000 times", timeout=180_000)
    expect(page.locator("#study")).to_contain_text("False alarms without one")
    looked_at(page, "design", reload=False)
    page.get_by_role("button", name="Keep and plan").click()
    page.wait_for_url(EXPERIMENT)
    begun["page"] = re.sub(r"https?://[^/]+", "", page.url)
    expect(page.locator("main")).to_contain_text(f"{USERS:,} units over both arms, at least 0 days")
    page.get_by_text("JavaScript").click()
    expect(page.locator("#snippet-javascript pre")).to_contain_text(begun["page"].strip("/"))
    looked_at(page, "planned")


def test_it_starts_both_versions_and_an_early_look_says_to_keep_running(
    page: Page, product: Stack, begun: dict[str, str]
) -> None:
    product.make_key()
    page.goto(begun["page"])
    page.locator("summary", has_text="Start").click()
    page.locator("details[open] button[type=submit]", has_text="Start").click()
    expect(page.locator(".verdict")).to_contain_text("running", timeout=180_000)
    _come(product, begun["page"], 0, FIRST)
    assert _read(page, begun["page"]) == "Keep running"
    expect(page.locator("main")).to_contain_text(f"{FIRST} of {USERS:,}")
    expect(page.locator("main")).to_contain_text("is not crossed")


def test_when_the_boundary_is_crossed_it_says_to_ship_and_its_scripts_agree(
    page: Page, product: Stack, begun: dict[str, str], tmp_path: Path
) -> None:
    _come(product, begun["page"], FIRST, USERS)
    # What the serving processes counted of these requests, for the guardrail, is reported every ten seconds.
    eventually(lambda: _read(page, begun["page"]) == "Ship it", seconds=180, what="the verdict", every=3)
    expect(page.locator("main")).to_contain_text("surely better than the control")
    expect(page.locator("main")).to_contain_text("better with a chance of")
    # The head may be a look ahead of what stands below it, whose sums are no longer there to be taken along.
    look = re.search(r"From look (\d+)", page.locator(".advice").inner_text())
    assert look is not None
    expect(page.locator("main")).to_contain_text(f"holds the sums of look {look[1]} ")
    with page.expect_download() as taken:
        page.get_by_role("link", name="Bundle").click()
    with zipfile.ZipFile(taken.value.path()) as archive:
        archive.extractall(tmp_path)
    for command in ([sys.executable, "reproduce.py"], ["Rscript", "--vanilla", "reproduce.R"]):
        if shutil.which(command[0]) is None:
            continue  # tests/experiments/test_reproduced.py says that R is not there
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert (done.returncode, done.stdout.splitlines()[-1].strip()) == (0, "agrees"), done.stdout + done.stderr
    looked_at(page, "running")


def test_a_person_decides_and_is_led_to_the_rollout(page: Page, product: Stack, begun: dict[str, str]) -> None:
    page.goto(begun["page"])
    page.locator("summary", has_text="Decide").click()
    page.get_by_label("Ship the new version").check()
    page.locator("details[open] button[type=submit]", has_text="Decide").click()
    link = page.get_by_role("link", name="Roll out 1.1.0")
    expect(link).to_be_visible(timeout=30_000)
    expect(page.locator("main")).to_contain_text("decided by ana")
    looked_at(page, "decided")
    experiment = said(product.api("GET", begun["page"].strip("/")))
    assert experiment["status"] == "decided"
    # the arms are gone: everybody gets what was stable, until a rollout has said otherwise
    eventually(lambda: _answers(product) == {"1.0.0"}, seconds=60, what="all traffic on stable")
    page.get_by_role("link", name="Roll out 1.1.0").click()
    page.wait_for_url(re.compile("/rollouts/new/.*version=1.1.0"))
    page.goto("/experiments/")
    expect(page.locator("main")).to_contain_text("does 1.1.0 help?")
    looked_at(page, "list")


def looked_at(page: Page, name: str, *, reload: bool = True) -> None:
    """No rule of axe is broken in either theme, no window is too narrow; a picture of each where a folder is named."""
    here = page.url
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        if reload:
            page.goto(here)
            page.wait_for_timeout(1500)  # figures are drawn, fragments are there
        assert violations(page) == [], f"{name}, {theme}"
        for width in (1440, 390):
            page.set_viewport_size({"width": width, "height": 900})
            for _ in range(100):  # charts follow a new width a moment later
                seen = page.evaluate("document.documentElement.scrollWidth")
                if seen <= width:
                    break
                page.wait_for_timeout(100)
            assert seen <= width, f"{name} is {seen} px wide in a window of {width}"
            if PICTURES:
                page.wait_for_timeout(600)
                page.screenshot(path=f"{PICTURES}/journey-{name}-{width}-{theme}.png", full_page=True)
        page.set_viewport_size({"width": 1440, "height": 900})
    page.emulate_media(color_scheme="light")


def _read(page: Page, path: str) -> str:
    """Has it read, and says what the page says then."""
    page.goto(path)
    page.get_by_role("button", name="Read now").click()
    expect(page.locator("progress[aria-label='Progress of the readout']")).to_have_count(0, timeout=90_000)
    word = page.locator(".advice-word")
    expect(word).to_be_visible(timeout=30_000)
    return re.sub(r"^\W+", "", word.inner_text().strip())


def _come(product: Stack, path: str, first: int, end: int) -> None:
    """Users ask for their arm, send its header through the gateway, and some of them book."""
    experiment = path.strip("/").removeprefix("experiments/")
    users = [f"user-{index}" for index in range(first, end)]
    told = said(product.api("POST", f"experiments/{experiment}/assignments", json={"units": users}))
    arms: list[str] = told["arms"]
    answered = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pandas, in the demo's own reading of its data
        flights = list(islice(replay(), len(users)))
    with httpx.Client(timeout=30) as client:
        for user, arm, flight in zip(users, arms, flights, strict=True):
            headers = {told["header"]: told["values"][arm]}
            answer = client.post(_infer(product), json=infer_body(flight, user), headers=headers)
            assert answer.status_code == 200, answer.text
            answered.append(f"v{answer.headers['x-pilothouse-version'].replace('.', '-')}")
    keys = {"control": "v1-0-0", "treatment": "v1-1-0"}
    assert answered == [keys[arm] for arm in arms]
    columns = {"units": users, "variants": answered}
    taken = said(product.api("POST", f"experiments/{experiment}/exposures", json=columns))
    assert taken["accepted"] == len(users), taken
    booked = [user for index, (user, arm) in enumerate(zip(users, arms, strict=True)) if index % EVERY[arm] == 0]
    body = {"ids": booked, "units": booked, "events": ["booked"] * len(booked)}
    assert said(product.api("POST", f"experiments/{experiment}/outcomes", json=body))["accepted"] == len(booked)


def _infer(product: Stack) -> str:
    return f"{product.gateway}/serve/late-arrival/v2/models/late-arrival/infer"


def _answers(product: Stack) -> set[str]:
    """Which versions answer somebody without an arm."""
    url = f"{product.gateway}/serve/late-arrival/v2/models/late-arrival"
    with httpx.Client(timeout=10) as client:
        return {client.get(url).headers.get("x-pilothouse-version", "") for _ in range(20)}
