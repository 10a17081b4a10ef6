"""Registering by hand: looked at first, registered as it was shown, and nothing lost on the way."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from apps.registry.models import Model, ModelVersion, UploadArea
from apps.registry.web import register
from tests.registry.files import canary, has_sung
from tests.registry.trees import INPUTS, make_artifact
from tests.registry_web.conftest import NEW_COLUMN, OPTIONAL_COLUMN, Shelf, work

HERE = "/models/-/register/"


def packed(folder: Path, top: str = "model/") -> SimpleUploadedFile:
    """A zip of a folder, as people make them: with the folder's own name on top."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, top + path.relative_to(folder).as_posix())
    return SimpleUploadedFile("model.zip", content.getvalue(), "application/zip")


def made(shelf: Shelf, name: str = "x", **how: Any) -> Path:
    return make_artifact(shelf.folder / "outside" / name, **{"weights": b"text\n", **how})


def send(client: Client, **fields: Any) -> Any:
    return client.post(HERE, {"model": "fraud", "do": "check", **fields})


def area_in(html: str) -> str:
    return html.split('name="area" value="')[1].split('"', maxsplit=1)[0]


def test_a_check_of_a_zip_shows_digest_format_signature_and_number_and_registers_nothing(shelf: Shelf) -> None:
    answer = send(shelf.enter("rosa"), files=packed(made(shelf)))
    html = answer.content.decode()
    assert answer.status_code == 200
    for words in ("sha256:", "Ready to register", "sklearn", "dep_delay", "Register fraud", "2 files"):
        assert words in html
    assert ModelVersion.objects.count() == 3


def test_what_was_checked_is_registered_from_the_same_upload_and_verified_by_a_worker(shelf: Shelf) -> None:
    rosa = shelf.enter("rosa")
    area = area_in(send(rosa, files=packed(made(shelf))).content.decode())
    answer = send(rosa, area=area, do="register", description="By hand.", metrics="auc = 0.91\n", params="depth=5",
                  tags="owner=ana")  # fmt: skip
    assert answer.status_code == 302
    work()
    found = ModelVersion.objects.get(number=4)
    assert (found.trust, found.status, found.description) == ("verified", "ready", "By hand.")
    assert (found.metrics, found.params) == ({"auc": 0.91}, {"depth": "5"})
    assert found.tags.get().value == "ana"
    assert found.created_by == "rosa"
    assert found.semver


@pytest.mark.parametrize(
    ("inputs", "number", "words"),
    [
        ((*INPUTS, NEW_COLUMN), "2.0.1", "has the signature of 2.0.0"),
        ((*INPUTS, NEW_COLUMN, OPTIONAL_COLUMN), "2.1.0", "may send more"),
        (({"type": "string", "name": "month", "required": True},), "3.0.0", "would break"),
    ],
)
def test_the_number_is_proposed_from_the_signature_with_the_fields_that_break_named(
    shelf: Shelf, inputs: Any, number: str, words: str
) -> None:
    html = send(shelf.enter("rosa"), files=packed(made(shelf, inputs=inputs))).content.decode()
    assert f'<p class="big">{number}</p>' in html
    assert words in html
    if number == "3.0.0":
        assert "Input &#x27;month&#x27; was long and is now string." in html


@pytest.mark.parametrize(
    ("semver", "words"),
    [("2.0.0", "is registered already"), ("2.5.0", "would break"), ("two", "is not a version"), ("1.0.0.0", "not a")],
)
def test_a_number_that_cannot_be_had_is_told_beside_the_field_and_the_upload_is_kept(
    shelf: Shelf, semver: str, words: str
) -> None:
    column = {"type": "string", "name": "month", "required": True}
    answer = send(shelf.enter("rosa"), files=packed(made(shelf, inputs=(column,))), semver=semver, description="Kept.")
    html = answer.content.decode()
    assert answer.status_code == 422
    assert words in html.split('id="fault-semver"')[1][:400]
    assert f'value="{semver}"' in html
    assert "Kept." in html
    assert UploadArea.objects.get(pk=area_in(html)).file_count == 2
    assert 'value="register"' not in html


def test_a_higher_number_may_be_asked_for(shelf: Shelf) -> None:
    rosa = shelf.enter("rosa")
    send(rosa, files=packed(made(shelf)), semver="7.0.0", do="register")
    work()
    assert ModelVersion.objects.get(number=4).semver == "7.0.0"


def test_a_new_name_makes_a_model_in_the_persons_team(shelf: Shelf) -> None:
    rosa = shelf.enter("rosa")
    html = send(rosa, model="churn", files=packed(made(shelf))).content.decode()
    assert "The first version of churn." in html
    assert not Model.objects.filter(name="churn").exists()
    answer = send(rosa, model="churn", area=area_in(html), do="register")
    assert answer.status_code == 302
    assert Model.objects.get(name="churn").team == shelf.risk


def test_files_of_a_folder_keep_their_paths(shelf: Shelf) -> None:
    folder = made(shelf)
    (folder / "data").mkdir()
    (folder / "data" / "notes.txt").write_text("words")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [SimpleUploadedFile(path.name, path.read_bytes()) for path in paths]
    names = [f"x/{path.relative_to(folder).as_posix()}" for path in paths]
    html = send(shelf.enter("rosa"), files=files, paths=names).content.decode()
    area = UploadArea.objects.get(pk=area_in(html))
    assert sorted(area.files.values_list("path", flat=True)) == ["MLmodel", "data/notes.txt", "model.skops"]


def test_the_digest_shown_is_the_one_that_the_worker_finds(shelf: Shelf) -> None:
    rosa = shelf.enter("rosa")
    html = send(rosa, files=packed(made(shelf))).content.decode()
    send(rosa, area=area_in(html), do="register")
    work()
    assert ModelVersion.objects.get(number=4).artifact_digest in html


def bomb() -> SimpleUploadedFile:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("MLmodel", b"\0" * (70 * 1024 * 1024))
    return SimpleUploadedFile("bomb.zip", content.getvalue())


def slipping() -> SimpleUploadedFile:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("../MLmodel", "x")
    return SimpleUploadedFile("slip.zip", content.getvalue())


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (SimpleUploadedFile("notes.txt", b"words"), "There is no MLmodel file among these 1 files"),
        (SimpleUploadedFile("MLmodel", b": not yaml ["), "MLmodel cannot be read"),
        (SimpleUploadedFile("MLmodel", b"flavors: {sklearn: {}}"), "The model has no signature"),
        (SimpleUploadedFile("broken.zip", b"PK\x03\x04 and then nothing"), "broken.zip"),
        (bomb(), "an archive bomb"),
        (slipping(), "leads out of the artifact"),
    ],
    ids=["no MLmodel", "bad YAML", "no signature", "broken zip", "bomb", "slip"],
)
def test_files_that_are_no_model_are_told_beside_the_field_and_what_was_typed_stays(
    shelf: Shelf, file: SimpleUploadedFile, words: str
) -> None:
    file.seek(0)
    answer = send(shelf.enter("rosa"), files=file, description="Typed with care.", metrics="auc = 0.9")
    html = answer.content.decode()
    assert answer.status_code == 422
    assert words in html.split('id="fault-files"')[1][:600]
    assert "Typed with care." in html
    assert "auc = 0.9" in html


def test_a_pickle_is_refused_with_its_imports_before_it_is_registered_and_never_runs(shelf: Shelf) -> None:
    answer = send(shelf.enter("rosa"), files=packed(made(shelf, weights=canary(shelf.folder))), do="register")
    html = answer.content.decode()
    assert answer.status_code == 422
    assert "It would be refused" in html
    assert "no policy lets that in" in html
    assert ModelVersion.objects.count() == 3
    assert not has_sung(shelf.folder)


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"model": ""}, "model", "Say which model"),
        ({"model": "a/b"}, "model", "cannot contain"),
        ({"source": ""}, "source", "Choose files, or say where"),
        ({"source": "/etc"}, "source", "outside the folders"),
        ({"source": "s3://b/m", "metrics": "auc 0.9"}, "metrics", "Line 1"),
        ({"source": "s3://b/m", "metrics": "auc = high"}, "metrics", "no number"),
        ({"source": "s3://b/m", "metrics": "auc = nan"}, "metrics", "finite"),
        ({"source": "s3://b/m", "params": "= x"}, "params", "Line 1"),
        ({"area": "web-of-somebody"}, "files", "choose them again"),
    ],
)
def test_bad_input_names_its_field_and_changes_nothing(
    shelf: Shelf, fields: dict[str, str], field: str, words: str
) -> None:
    answer = send(shelf.enter("rosa"), do="register", **fields)
    html = answer.content.decode()
    assert answer.status_code == 422
    assert words in html.split(f'id="fault-{field}"')[1][:500]
    assert (Model.objects.count(), ModelVersion.objects.count()) == (2, 3)


def test_a_path_that_may_be_read_is_looked_at_and_stays_where_it_is(shelf: Shelf) -> None:
    rosa, folder = shelf.enter("rosa"), made(shelf)
    html = send(rosa, source=str(folder)).content.decode()
    assert "Read where it lies" in html
    assert send(rosa, source=str(folder), do="register").status_code == 302
    found = ModelVersion.objects.get(number=4)
    assert (found.storage_uri, found.trust) == (folder.as_uri(), "verified")
    assert found.artifact_digest in html


def test_an_address_is_never_followed_and_becomes_an_entry_of_the_catalogue(shelf: Shelf) -> None:
    rosa = shelf.enter("rosa")
    html = send(rosa, source="s3://elsewhere/model").content.decode()
    assert "becomes an entry of the catalogue" in html
    assert send(rosa, source="s3://elsewhere/model", do="register").status_code == 302
    assert ModelVersion.objects.get(number=4).trust == "unverified"


def test_an_upload_of_somebody_else_is_not_used(shelf: Shelf) -> None:
    area = area_in(send(shelf.enter("rosa"), files=packed(made(shelf))).content.decode())
    answer = send(shelf.enter("finn"), model="theirs", area=area, do="register")
    assert answer.status_code == 422
    assert not Model.objects.filter(name="theirs").exists()


def test_who_may_not_register_gets_no_form_and_a_foreign_model_no_version(shelf: Shelf) -> None:
    assert shelf.enter("vera").get(HERE).status_code == 403
    assert send(shelf.enter("vera"), source="s3://x/y", do="register").status_code == 403
    answer = send(shelf.enter("finn"), source="s3://x/y", do="register")
    assert answer.status_code in {404, 422}
    assert ModelVersion.objects.count() == 3


def test_too_large_a_form_is_refused_before_it_is_read(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register, "MAX_BYTES", 100)
    monkeypatch.setattr(register, "_ENVELOPE", 10)
    answer = send(shelf.enter("rosa"), files=packed(made(shelf)))
    assert answer.status_code == 413
    assert "file by file" in answer.content.decode()
    assert not UploadArea.objects.exists()


def test_more_files_than_a_form_takes_are_answered_with_the_way_out(shelf: Shelf) -> None:
    files = [SimpleUploadedFile(f"f{number}", b"x") for number in range(101)]
    answer = send(shelf.enter("rosa"), files=files)
    assert answer.status_code == 422
    assert "one zip archive" in answer.content.decode()


def test_the_form_without_its_token_keeps_nothing(shelf: Shelf) -> None:
    rosa = shelf.enter("rosa")
    rosa.handler.enforce_csrf_checks = True
    assert send(rosa, files=packed(made(shelf)), do="register").status_code == 403
    assert not UploadArea.objects.exists()


ORIGIN = {"git_commit": "0A1B2C3D4E", "parent": "1.0.0", "lineage": "training data = s3://flights/2026-10\nlabels = v7"}


@pytest.mark.parametrize("where", ["path", "entry"])
def test_commit_parent_and_data_are_kept_and_shown(shelf: Shelf, where: str) -> None:
    rosa = shelf.enter("rosa")
    source = str(made(shelf)) if where == "path" else "s3://elsewhere/model"
    assert send(rosa, source=source, do="register", **ORIGIN).status_code == 302
    found = ModelVersion.objects.get(number=4)
    assert (found.git_commit, found.parent.reference) == ("0a1b2c3d4e", "1.0.0")  # type: ignore[union-attr]
    assert found.lineage == {"training data": "s3://flights/2026-10", "labels": "v7"}
    html = rosa.get(f"/models/fraud/versions/{found.reference}/").content.decode()
    for said in ("0a1b2c3d4e", "fraud 1.0.0", "training data", "s3://flights/2026-10"):
        assert said in html


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [
        ("git_commit", "master", "is no commit"),
        ("git_commit", "0a1b2c", "is no commit"),
        ("parent", "9.9.9", "has no version 9.9.9"),
        ("parent", "late/1.0.0", "Write a version of this model"),
        ("lineage", "no equals sign", "Line 1 is not of the form"),
        ("lineage", "\n".join(f"d{n} = x" for n in range(60)), "At most 50 lines"),
    ],
)
@pytest.mark.parametrize("do", ["check", "register"])
def test_what_cannot_be_read_of_its_origin_is_named_at_its_field(
    shelf: Shelf, field: str, typed: str, said: str, do: str
) -> None:
    answer = send(shelf.enter("rosa"), source=str(made(shelf)), do=do, **{**ORIGIN, field: typed})
    html = answer.content.decode()
    assert answer.status_code == 422
    assert said in html
    assert f'id="fault-{field}"' in html
    assert ModelVersion.objects.count() == 3
