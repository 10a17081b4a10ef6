"""Labels by a file on a page: looked at first, stored with counts and reasons; and the place where drift will stand."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from apps.audit.models import Event
from apps.telemetry.domain import labels as rules
from apps.telemetry.models import Label
from tests.api.world import World
from tests.telemetry.test_labels import parquet
from tests.web.conftest import Browser, browser, world  # noqa: F401  fixtures

pytestmark = pytest.mark.django_db
PAGE = "/endpoints/late-arrival/labels/"
CSV = b"request_id,value\nr1,1\nr2,0\nr1,0\n,1\nr3,\nr4,\n"


def sent(client: Any, raw: bytes, name: str = "labels.csv", do: str = "upload") -> Any:
    return client.post(PAGE, {"file": SimpleUploadedFile(name, raw), "do": do})


def test_a_look_stores_nothing_and_says_what_would_be(world: World, browser: Browser) -> None:  # noqa: F811
    answer = sent(browser("alice"), CSV, do="check")
    html = answer.content.decode()
    assert answer.status_code == 200
    assert "was only looked at" in html
    assert "Would be accepted" in html
    assert not Label.objects.exists()
    assert not Event.objects.filter(verb="labels.uploaded").exists()


def test_an_upload_counts_accepted_and_rejected_with_reasons(world: World, browser: Browser) -> None:  # noqa: F811
    html = sent(browser("alice"), CSV).content.decode()
    assert set(Label.objects.values_list("request_id", "value")) == {("r1", 0), ("r2", 0)}
    assert "<dt>Accepted</dt><dd> <b>2</b>" in html or "<dt>Accepted</dt><dd><b>2</b>" in html
    assert '<td class="wrap">value is missing</td><td class="num">2</td>' in html
    assert '<td class="wrap">request_id must be a text of 1 to 128 characters</td><td class="num">1</td>' in html
    assert "row 4: request_id" in html
    assert Event.objects.get(verb="labels.uploaded").detail["rejected"] == 3


def test_parquet_is_taken_too(world: World, browser: Browser) -> None:  # noqa: F811
    raw = parquet(request_id=["r1", "r2"], value=[1.5, 2.5])
    assert b"LABELS.PARQUET is stored" in sent(browser("alice"), raw, "LABELS.PARQUET").content
    assert Label.objects.count() == 2


@pytest.mark.parametrize(
    ("name", "raw", "words"),
    [
        ("labels.xlsx", b"x", "ends in neither .csv nor .parquet"),
        ("labels.csv", b"id,truth\n1,2\n", "column request_id is missing"),
        ("labels.parquet", b"no", "is no Parquet"),
        ("labels.csv", b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_words(
    world: World, browser: Browser, name: str, raw: bytes, words: str  # noqa: F811
) -> None:  # fmt: skip
    answer = sent(browser("alice"), raw, name)
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert "Nothing was stored." in answer.content.decode()


def test_no_file_and_too_large_a_one_are_refused(
    world: World, browser: Browser, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    alice = browser("alice")
    assert alice.post(PAGE, {"do": "upload"}).status_code == 422
    monkeypatch.setattr("apps.telemetry.web.kept.MAX_BYTES", rules.MAX_BYTES // 2**22)
    assert b"at most 2 bytes" in sent(alice, CSV).content


def test_who_may_not_write_labels_sees_why_and_is_refused(world: World, browser: Browser) -> None:  # noqa: F811
    bob = browser("bob")
    html = bob.get(PAGE).content.decode()
    assert 'value="upload" disabled' in html
    assert sent(bob, CSV).status_code == 403
    assert not Label.objects.exists()


def test_the_endpoints_page_leads_there_and_claims_no_drift_watch(world: World, browser: Browser) -> None:  # noqa: F811
    alice = browser("alice")
    html = alice.get("/endpoints/late-arrival/").content.decode()
    assert f'href="{PAGE}"' in html
    assert "Nothing compares the inputs of late-arrival" in html
    sent(alice, CSV)
    assert "<b>2</b> in 90 days, the newest of" in alice.get("/endpoints/late-arrival/data/").content.decode()
