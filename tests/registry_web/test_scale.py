"""Ten thousand versions: the pages ask as few questions as before, every one of them by an index."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django.plugin import DjangoDbBlocker

from apps.registry.models import Alias, Model, ModelTag, ModelVersion
from tests.registry_web.conftest import Shelf, make_shelf

pytestmark = pytest.mark.django_db
MODELS, EACH, LONG = 900, 10, 1000
PAGES = (
    "/models/",
    "/models/?sort=name",
    "/models/?q=m-0042",
    "/models/?q=owner:person-7",
    "/models/?q=name+LIKE+'m-01%25'+AND+tags.owner+%3D+'person-7'",
    "/models/m-0000/",
    "/models/m-0000/?below=500",
    "/models/m-0000/versions/0.0.500/",
    "/models/m-0000/compare/?a=0.0.3&b=0.0.997",
)


@pytest.fixture(scope="module")
def many(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shelf]:
    """10,000 versions more, 1,000 of them of one model; once, for tests that only read, and nobody commits them."""
    folder = tmp_path_factory.mktemp("scale")
    with pytest.MonkeyPatch.context() as patch, django_db_blocker.unblock(), transaction.atomic():
        patch.setattr(settings, "PILOTHOUSE_HOME", folder / "home")
        patch.setattr(settings, "PILOTHOUSE_ARTIFACT_ROOTS", (folder,))
        yield _filled(make_shelf(folder))
        transaction.set_rollback(True)


def _filled(shelf: Shelf) -> Shelf:
    models = Model.objects.bulk_create(
        [Model(name=f"m-{number:04}", team=shelf.risk, created_by="x", description=f"Says {number}.")
         for number in range(MODELS + 1)]
    )  # fmt: skip
    ModelTag.objects.bulk_create(
        [ModelTag(model=one, key="owner", value=f"person-{n % 50}") for n, one in enumerate(models)]
    )
    about = {"created_by": "x", "trust": "verified", "source_uri": "s3://x/y", "metrics": {"auc": 0.8},
             "signature": {"inputs": [{"name": f"c{n}", "type": "double"} for n in range(40)]}}  # fmt: skip
    versions = [
        ModelVersion(model=one, number=n, major=0, minor=0, patch=n, **about)
        for place, one in enumerate(models)
        for n in range(1, (LONG if place == 0 else EACH) + 1)
    ]
    made = ModelVersion.objects.bulk_create(versions, batch_size=1000)
    Alias.objects.bulk_create([Alias(model=one.model, name="champion", version=one) for one in made if one.number == 1])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return shelf


def seconds(shelf: Shelf, path: str) -> float:
    vera = shelf.enter("vera")
    vera.get(path)
    begun = time.perf_counter()
    assert vera.get(path).status_code == 200
    return time.perf_counter() - begun


def test_pages_cost_as_many_queries_with_ten_thousand_versions_as_with_three(many: Shelf) -> None:
    vera = many.enter("vera")
    counts = {}
    for path in ("/models/", "/models/fraud/", "/models/m-0000/", "/models/fraud/versions/1.1.0/", PAGES[7]):
        with CaptureQueriesContext(connection) as queries:
            assert vera.get(path).status_code == 200
        counts[path] = len(queries)
    assert counts["/models/m-0000/"] == counts["/models/fraud/"]
    assert counts[PAGES[7]] <= counts["/models/fraud/versions/1.1.0/"]  # files in a bucket: no builds to ask for
    assert counts["/models/"] <= 12
    assert max(counts.values()) <= 23  # the page of a version: five of them for its image and the builds of it
    print("queries", counts)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def test_no_page_reads_through_the_table_of_versions(many: Shelf) -> None:
    for path in PAGES:
        slowest = slowest_statement(many, path)
        print(f"{path}: slowest statement {slowest:.1f} ms, page {1000 * seconds(many, path):.0f} ms")


def slowest_statement(many: Shelf, path: str) -> float:
    """Milliseconds of the slowest statement of a page; none of them may scan the versions."""
    with CaptureQueriesContext(connection) as queries:
        assert many.enter("vera").get(path).status_code == 200
    slowest = 0.0
    for query in queries.captured_queries:
        if not query["sql"].startswith("SELECT"):
            continue
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query['sql'].replace('%', '%%')}", [])
            found = cursor.fetchone()[0]
        plan = (json.loads(found) if isinstance(found, str) else found)[0]
        read = [one for one in nodes(plan["Plan"]) if one.get("Relation Name") == "registry_modelversion"]
        assert not [one for one in read if one["Node Type"] == "Seq Scan"], query["sql"]
        rows = sum(one["Actual Rows"] * one["Actual Loops"] for one in read)
        assert rows <= 3 * LONG, query["sql"]
        slowest = max(slowest, plan["Execution Time"])
    return slowest
