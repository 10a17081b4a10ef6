"""At 100,000 versions every hot read still goes by an index, and none takes much longer than at 1,000."""

from __future__ import annotations

import json
import re
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Team
from apps.accounts.selectors import team_default
from apps.kernel.actor import SYSTEM, Actor, Grant
from apps.registry.models import Model, ModelVersion
from apps.registry.selectors import readable_teams, rows
from apps.registry.selectors.search import search_models, search_versions

pytestmark = [pytest.mark.django_db, pytest.mark.slow, pytest.mark.timeout(600)]
MODELS, VERSIONS, SMALL = 1_000, 100, 20
"""Every fiftieth model belongs to a small team."""


@pytest.fixture
def many(db: None) -> None:
    large, small = team_default(), Team.objects.create(slug="small", name="Small")
    models = Model.objects.bulk_create(
        Model(name=f"m{number:04d}", team=large if number % (MODELS // SMALL) else small, created_by="x")
        for number in range(MODELS)
    )
    pattern = ModelVersion.objects.create(model=models[0], number=10_000, source_uri="s3://x", created_by="x")
    own = {"id": "m.name || '-' || n", "model_id": "m.id", "number": "n", "run_id": "m.name || n"}
    own["updated_at"] = 't."updated_at" - make_interval(secs => random() * 1000000)'
    columns = [field.column for field in ModelVersion._meta.concrete_fields]
    values = ", ".join(own.get(name, f't."{name}"') for name in columns)
    named = ", ".join(f'"{name}"' for name in columns)
    with connection.cursor() as cursor:
        # by the database: made here they would take longer than a transaction may idle
        cursor.execute(
            f"INSERT INTO registry_modelversion ({named}) SELECT {values} FROM registry_model m, "
            "generate_series(1, %s) n, registry_modelversion t WHERE t.id = %s",
            [VERSIONS, pattern.pk],
        )
        cursor.execute("DELETE FROM registry_modelversion WHERE id = %s", [pattern.pk])
        cursor.execute("ANALYZE registry_modelversion, registry_model")  # the triggers join with them; owners only
        cursor.execute(
            "INSERT INTO registry_alias (model_id, name, version_id, moved_at) "
            "SELECT model_id, 'champion', id, now() FROM registry_modelversion WHERE number = 5"
        )
        cursor.execute(
            "INSERT INTO registry_versiontag (version_id, key, value) "
            "SELECT id, 'k', 'v' || row_number() OVER (ORDER BY id) FROM registry_modelversion"
        )
        cursor.execute("ANALYZE")


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(found for part in plan.get("Plans", []) for found in nodes(part))]


def scanned(read: Any) -> list[tuple[str, int]]:
    """(table, rows) of every sequential scan of ``read``'s statements, run under EXPLAIN ANALYZE; of the prepared ones
    by the plan for any values, which is what a connection uses in the end, and by the plan for these."""
    prepared: list[tuple[str, Any]] = []

    def kept(sql: str, values: Any) -> list[tuple[Any, ...]]:
        prepared.append((sql, values))
        return original(sql, values)

    with CaptureQueriesContext(connection) as seen, pytest.MonkeyPatch.context() as patch:
        original = rows.run_prepared
        patch.setattr(rows, "run_prepared", kept)
        read()
    explained = [explain(one["sql"]) for one in seen.captured_queries]
    for sql, values in prepared:
        client = psycopg.ClientCursor(connection.connection)
        explained.append(explain(client.mogrify(sql, values)))
        places = iter(range(1, len(values) + 1))
        text = re.sub("%s", lambda _: f"${next(places)}", sql)  # noqa: B023  (used at once)
        listed = client.mogrify(", ".join(["%s"] * len(values)), values)
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            cursor.execute(f"PREPARE looked_at AS {text}")
        explained.append(explain(f"EXECUTE looked_at({listed})"))
        with connection.cursor() as cursor:
            cursor.execute("DEALLOCATE looked_at")
            cursor.execute("SET LOCAL plan_cache_mode = auto")
    steps = [node for plan in explained for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
    return [(node["Relation Name"], node["Actual Rows"]) for node in steps]


def explain(statement: str) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
        plan = cursor.fetchone()[0]
    found: dict[str, Any] = (plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]
    return found


def test_the_hot_statements_are_really_prepared(db: None) -> None:
    rows.model_row("none", None)
    rows.model_row("none", ["t"])
    with connection.cursor() as cursor:
        cursor.execute("SELECT generic_plans + custom_plans FROM pg_prepared_statements")
        assert cursor.fetchall() == [(2,)]


def member(slug: str) -> Actor:
    """Somebody who may read one team's models only."""
    read = frozenset({"model.read"})
    grant = Grant(read, team=Team.objects.get(slug=slug).pk)
    return Actor("user", "1", slug, read, grants=frozenset({grant}))


@pytest.mark.parametrize("who", ["everybody", "default", "small"])
def test_no_hot_read_walks_through_a_table(many: None, who: str) -> None:
    actor = SYSTEM if who == "everybody" else member(who)
    teams = readable_teams(actor)

    def walk(**how: Any) -> Any:
        asked = {"order_by": [], **how}
        return lambda: rows.version_rows(search_versions(actor=actor, token="", limit=100, **asked).ids)

    def models() -> list[rows.Row]:
        return rows.model_rows(search_models(actor=actor, text="", order_by=[], limit=100, token="").ids)

    reads = {
        "alias": lambda: rows.version_row_by_alias("m0500", "champion", teams),
        "number": lambda: rows.version_row("m0500", 7, teams),
        "latest": lambda: rows.version_row_latest("m0500", teams),
        "model": lambda: rows.model_row("m0500", teams),
        "models": models,
        "models by name": lambda: rows.model_marks_after("m0300", "model", 100, teams),
        "of a model": walk(text="name = 'm0500'"),
        "of a run": walk(text="run_id = 'm050042'"),
        "by tag": walk(text="tags.k = 'v4711'"),
        "newest": walk(text=""),
    }
    large = {"registry_modelversion", "registry_versiontag"}
    walked = {name: scanned(read) for name, read in reads.items()}
    assert {name: found for name, found in walked.items() if large & {table for table, _ in found}} == {}
    assert len(models()) == (SMALL if who == "small" else 100)
    page = search_versions(actor=actor, text="", order_by=[], limit=100, token="")
    second = search_versions(actor=actor, text="", order_by=[], limit=100, token=page.next_token)
    assert len(page.ids) == len(second.ids) == 100
    assert not set(page.ids) & set(second.ids)
