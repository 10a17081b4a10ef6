"""Every hot read and the registration at 1,000 versions and at 100,000, in turn.

Two databases of one PostgreSQL, the second a hundred times the first: 10 and 1,000 models of 100 versions each, with an
alias per model and a tag per version, so that every answer has the same size in both. Each call runs in this process on
the product's own functions; what is compared is their median time per round, and the limit is 3 times.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any

import psycopg
from database import own_database
from harness import ratio, save, table

MODELS = {"small": 10, "large": 1_000}
VERSIONS = 100
AT_MOST = 3.0
ROUNDS, CALLS, WARM = 7, 40, 8

_MODELS_SQL = """
INSERT INTO registry_model
       (id, name, kind, team_id, description, next_number, protected_aliases, created_at, created_by, updated_at)
SELECT 'mo-' || n, 'm' || lpad(n::text, 4, '0'), 'model', %(team)s, '', %(versions)s + 1, '["champion"]', now(),
       'seed', now() - make_interval(secs => n)
  FROM generate_series(0, %(models)s - 1) n
"""
_ALIASES_SQL = """
INSERT INTO registry_alias (model_id, name, version_id, moved_at)
SELECT model_id, 'champion', id, now() FROM registry_modelversion WHERE number = 5
"""
_TAGS_SQL = """
INSERT INTO registry_versiontag (version_id, key, value)
SELECT id, 'k', 'v' || row_number() OVER (ORDER BY id) FROM registry_modelversion
"""


def fill(models: int) -> None:
    """By the database itself: made here, a hundred thousand rows would take minutes."""
    from django.db import connection

    from apps.accounts.selectors import team_default
    from apps.registry.models import Model, ModelVersion

    with connection.cursor() as cursor:
        cursor.execute(_MODELS_SQL, {"team": team_default().pk, "versions": VERSIONS, "models": models})
        pattern = ModelVersion.objects.create(
            model=Model.objects.get(pk="mo-0"), number=10_000, source_uri="s3://x", created_by="seed"
        )
        own = {"id": "m.id || '-' || n", "model_id": "m.id", "number": "n", "run_id": "m.name || n"}
        own["updated_at"] = 't."updated_at" - make_interval(secs => random() * 1000000)'
        columns = [field.column for field in ModelVersion._meta.concrete_fields]
        values = ", ".join(own.get(name, f't."{name}"') for name in columns)
        named = ", ".join(f'"{name}"' for name in columns)
        cursor.execute(
            f"INSERT INTO registry_modelversion ({named}) SELECT {values} FROM registry_model m, "
            "generate_series(1, %s) n, registry_modelversion t WHERE t.id = %s",
            [VERSIONS, pattern.pk],
        )
        cursor.execute("DELETE FROM registry_modelversion WHERE id = %s", [pattern.pk])
        cursor.execute(_ALIASES_SQL)
        cursor.execute(_TAGS_SQL)
        cursor.execute("ANALYZE")


def calls(models: int) -> Mapping[str, Callable[[], Any]]:
    """What is measured, asked about the middle of the content."""
    from apps.kernel.actor import SYSTEM
    from apps.registry.selectors import rows, version_by
    from apps.registry.selectors.search import search_models, search_versions
    from apps.registry.services.versions import Entry, version_create

    name = f"m{models // 2:04d}"
    middle: dict[str, Any] = {"actor": SYSTEM, "limit": 10, "token": ""}

    def search(text: str, order_by: tuple[str, ...] = ()) -> Callable[[], Any]:
        return lambda: rows.version_rows(search_versions(**middle, text=text, order_by=list(order_by)).ids)

    return {
        "version by alias": lambda: rows.version_row_by_alias(name, "champion", None),
        "version by number": lambda: rows.version_row(name, 7, None),
        "latest version": lambda: rows.version_row_latest(name, None),
        "one model": lambda: rows.model_row(name, None),
        "ten models by name": lambda: rows.model_marks_after("", "model", 10, None),
        "models LIKE": lambda: search_models(**middle, text=f"name LIKE '{name}%'", order_by=[]),
        "models that changed last": lambda: search_models(**middle, text="", order_by=["last_updated_timestamp DESC"]),
        "versions of a model": lambda: rows.version_rows_of(name, 100, None),
        "versions of a run": search(f"run_id = '{name}42'"),
        "versions by a tag": search("tags.k = 'v471'"),
        "versions that changed last": search(""),
        "version in /api/v1": lambda: version_by(name, "champion"),
        "create a version": lambda: version_create(actor=SYSTEM, model_name=name, entry=Entry("s3://bucket/new")),
    }


@contextmanager
def at(database: str) -> Iterator[None]:
    """This process on another database of the same server; its statements are prepared anew."""
    from django.db import connection

    connection.close()
    before, connection.settings_dict["NAME"] = connection.settings_dict["NAME"], database
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before


def timed(call: Callable[[], Any]) -> float:
    """The median of CALLS, in milliseconds."""
    for _ in range(WARM):
        call()
    taken = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        call()
        taken.append((time.perf_counter() - begun) * 1000)
    return median(taken)


def main() -> int:
    begun = time.time()
    figures: dict[str, Any] = {}
    with own_database() as services:
        from django.db import connection

        with psycopg.connect(services.postgres.url("postgres"), autocommit=True) as admin:
            base = connection.settings_dict["NAME"]
            connection.close()
            for size, models in MODELS.items():
                admin.execute(f'CREATE DATABASE "{size}" TEMPLATE "{base}"')
                with at(size):
                    fill(models)
        seen: dict[str, dict[str, list[float]]] = {}
        for _ in range(ROUNDS):
            for size, models in MODELS.items():
                with at(size):
                    for name, call in calls(models).items():
                        seen.setdefault(name, {one: [] for one in MODELS})[size].append(timed(call))
    for name, found in seen.items():
        figures[name] = {
            **{f"{size}_ms": median(taken) for size, taken in found.items()},
            "ratio": ratio(found["large"], found["small"]),
        }
    table(
        f"{MODELS['large'] * VERSIONS:,} versions beside {MODELS['small'] * VERSIONS:,}",
        ["", "small ms", "large ms", "ratio"],
        [[name, one["small_ms"], one["large_ms"], one["ratio"]["median"]] for name, one in figures.items()],
    )
    misses = [name for name, one in figures.items() if one["ratio"]["median"] > AT_MOST]
    save("registry_scale", {**figures, "misses": misses}, started=begun)
    for miss in misses:
        print(f"MISSED: {miss}: {figures[miss]['ratio']['median']:.2f} times, {AT_MOST:g} at most")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
