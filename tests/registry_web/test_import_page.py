"""Imports: set up by an admin of the team, watched by everybody in it, stopped and repeated."""

from __future__ import annotations

import re

import pytest

from apps.registry.models import ImportJob
from tests.registry_web.conftest import Shelf

HERE = "/models/-/imports/"
ASKED = {"url": "https://models.example.org", "rhythm": "0", "username": "u", "credential": "very secret words"}


@pytest.fixture
def job(shelf: Shelf) -> ImportJob:
    shelf.enter("adam").post(HERE, ASKED)
    return ImportJob.objects.get()


def test_an_admin_begins_an_import_and_lands_on_its_page(shelf: Shelf) -> None:
    answer = shelf.enter("adam").post(HERE, {**ASKED, "rhythm": "3600", "with_artifacts": "1"})
    job = ImportJob.objects.get()
    assert answer.headers["Location"] == f"{HERE}{job.pk}/"
    assert (job.url, job.sync_seconds, job.with_artifacts, job.team_key) == (
        "https://models.example.org", 3600, True, "risk"
    )  # fmt: skip


def test_the_files_come_along_unless_somebody_says_otherwise(shelf: Shelf) -> None:
    adam = shelf.enter("adam")
    assert re.search(r'name="with_artifacts" value="1" checked', adam.get(HERE).content.decode())
    refused = adam.post(HERE, {**ASKED, "url": "nowhere"}).content.decode()
    assert 'name="with_artifacts" value="1">' in refused, "what was unticked stays so"


def test_an_address_that_is_not_called_is_refused_at_its_field_with_the_line_to_copy(shelf: Shelf) -> None:
    answer = shelf.enter("adam").post(HERE, {**ASKED, "url": "http://127.0.0.1:5000"})
    html = answer.content.decode()
    assert answer.status_code == 422
    assert 'id="fault-url"' in html
    assert "<pre>PILOTHOUSE_OUTBOUND_ALLOW=127.0.0.1:5000</pre>" in html
    assert "start Pilothouse again" in html
    assert not ImportJob.objects.exists()


def test_nothing_green_stands_above_what_may_be_red(shelf: Shelf) -> None:
    adam = shelf.enter("adam")
    place = adam.post(HERE, ASKED).headers["Location"]
    ImportJob.objects.update(state="failed", run=1, error="It answered 500.")
    html = adam.get(place).content.decode()
    assert "It answered 500." in html
    assert 'class="messages"' not in html


def test_a_page_says_it_is_live_only_while_something_comes(shelf: Shelf, job: ImportJob) -> None:
    vera = shelf.enter("vera")
    for state, is_live in (("waiting", True), ("running", True), ("done", False), ("failed", False)):
        ImportJob.objects.update(state=state, run=1)
        html = vera.get(f"{HERE}{job.pk}/").content.decode()
        assert ("data-fragment" in html) is is_live
        assert "data-live-indicator" not in html


def test_a_run_that_nobody_takes_up_says_so(shelf: Shelf, job: ImportJob) -> None:
    vera = shelf.enter("vera")
    assert "run 1 starts within a few seconds" in vera.get(f"{HERE}{job.pk}/").content.decode()
    ImportJob.objects.update(due_at="2020-01-01T12:34:00Z")
    assert "no worker has taken it up since 12:34 UTC" in vera.get(f"{HERE}{job.pk}/").content.decode()


def test_the_credential_is_on_no_page(shelf: Shelf, job: ImportJob) -> None:
    adam = shelf.enter("adam")
    refused = adam.post(HERE, {**ASKED, "url": "nowhere"})
    for html in (adam.get(HERE), adam.get(f"{HERE}{job.pk}/"), refused):
        assert "very secret words" not in html.content.decode()
    assert "very secret words" not in job.credential


@pytest.mark.parametrize(
    ("over", "field", "words"),
    [
        ({"url": "mlflow.example.com"}, "url", "Give the server"),
        ({"url": "https://u:p@mlflow.example.com"}, "url", "Give the server"),
        ({"url": ""}, "url", "Give the server"),
        ({"rhythm": "1"}, "rhythm", "from the list"),
        ({"team": "flights"}, "team", "no team flights"),
    ],
)
def test_what_cannot_be_is_told_beside_its_field_and_stays_typed(
    shelf: Shelf, over: dict[str, str], field: str, words: str
) -> None:
    answer = shelf.enter("adam").post(HERE, {**ASKED, **over})
    html = answer.content.decode()
    assert answer.status_code == 422
    assert words in html
    assert f'id="fault-{field}"' in html or not field
    assert 'value="u"' in html
    assert not ImportJob.objects.exists()


def test_a_server_is_imported_from_once(shelf: Shelf, job: ImportJob) -> None:
    answer = shelf.enter("adam").post(HERE, ASKED)
    assert answer.status_code == 409
    assert "imported from already" in answer.content.decode()


def test_everybody_of_the_team_watches_and_nobody_else(shelf: Shelf, job: ImportJob) -> None:
    assert "models.example.org" in shelf.enter("vera").get(HERE).content.decode()
    assert shelf.enter("vera").get(f"{HERE}{job.pk}/").status_code == 200
    finn = shelf.enter("finn")
    assert "models.example.org" not in finn.get(HERE).content.decode()
    for path in ("", "progress/"):
        assert finn.get(f"{HERE}{job.pk}/{path}").status_code == 404


@pytest.mark.parametrize("path", ["", "{job}/again/", "{job}/stop/"])
def test_an_engineer_changes_nothing_and_is_told_who_can(shelf: Shelf, job: ImportJob, path: str) -> None:
    rosa = shelf.enter("rosa")
    assert rosa.post(f"{HERE}{path.format(job=job.pk)}", {**ASKED, "url": "https://x.example.com"}).status_code == 403
    assert "needs the role admin" in rosa.get(HERE).content.decode()
    assert "needs the role admin" in rosa.get(f"{HERE}{job.pk}/").content.decode()
    assert ImportJob.objects.count() == 1


def test_progress_is_a_fragment_that_fetches_the_page_again_at_the_end(shelf: Shelf, job: ImportJob) -> None:
    ImportJob.objects.update(
        state="running", run=1, counts={"models": 12, "versions": 3456, "written": 9, "skipped": 1}
    )
    vera, address = shelf.enter("vera"), f"{HERE}{job.pk}/progress/"
    answer = vera.get(address, headers={"HX-Request": "true"})
    assert "3,456" in answer.content.decode()
    assert "<html" not in answer.content.decode()
    assert "HX-Refresh" not in answer.headers
    ImportJob.objects.update(state="done")
    assert vera.get(address, headers={"HX-Request": "true"}).headers["HX-Refresh"] == "true"


def test_what_was_skipped_stands_there_with_its_reason_escaped(shelf: Shelf, job: ImportJob) -> None:
    ImportJob.objects.update(state="done", run=1, skipped=[{"model": "<b>m</b>", "reason": "The name is taken here."}])
    html = shelf.enter("vera").get(f"{HERE}{job.pk}/").content.decode()
    assert "The name is taken here." in html
    assert "<b>m</b>" not in html


def test_it_is_stopped_and_repeated_with_another_rhythm(shelf: Shelf, job: ImportJob) -> None:
    adam = shelf.enter("adam")
    assert adam.post(f"{HERE}{job.pk}/stop/").status_code == 302
    assert ImportJob.objects.get().state == "stopped"
    assert adam.post(f"{HERE}{job.pk}/again/", {"rhythm": "86400"}).status_code == 302
    found = ImportJob.objects.get()
    assert (found.state, found.sync_seconds) == ("waiting", 86400)
    ImportJob.objects.update(state="running")
    assert adam.post(f"{HERE}{job.pk}/again/", {"rhythm": "0"}).status_code == 409
