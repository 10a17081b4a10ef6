"""The two registries that are compared, on one PostgreSQL, with the same content, as real processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from programs import free_port, started

MODELS, VERSIONS, WRITE_MODELS = 1_000, 10, 100


def name_of(number: int) -> str:
    return f"model-{number:04d}"


def written_name(number: int) -> str:
    return f"write-{number:03d}"


def seed_ours() -> str:
    """The content by bulk insert, and an engineer's API key, which is returned."""
    from apps.accounts.domain.roles import Role
    from apps.accounts.selectors import team_default
    from apps.accounts.services.access import actor_of
    from apps.accounts.services.people import account_create
    from apps.accounts.services.tokens import token_make
    from apps.kernel.actor import SYSTEM
    from apps.registry.models import Alias, Model, ModelTag, ModelVersion

    team = team_default()
    models = [
        Model(name=name_of(number), team=team, created_by="seed", next_number=VERSIONS + 1) for number in range(MODELS)
    ]
    models += [Model(name=written_name(number), team=team, created_by="seed") for number in range(WRITE_MODELS)]
    Model.objects.bulk_create(models)
    versions = [
        ModelVersion(model=model, number=number, source_uri=f"s3://bucket/{model.name}/{number}", created_by="seed")
        for model in models[:MODELS]
        for number in range(1, VERSIONS + 1)
    ]
    ModelVersion.objects.bulk_create(versions, batch_size=2_000)
    Alias.objects.bulk_create(
        Alias(model=one.model, name="champion", version=one) for one in versions if one.number == VERSIONS // 2
    )
    ModelTag.objects.bulk_create(ModelTag(model=model, key="team", value="blue") for model in models[:MODELS])
    user = account_create(actor=SYSTEM, username="bench", password="a sentence for a benchmark", roles=frozenset(Role))
    _analyze()
    return token_make(actor=actor_of(user), user=user, label="bench", roles=frozenset({Role.ENGINEER}))[1]


def _analyze() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def seed_theirs(url: str) -> None:
    """The same models, versions, aliases and tags in the tables that ``mlflow server`` has made."""
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        names = [name_of(number) for number in range(MODELS)]
        everything = names + [written_name(number) for number in range(WRITE_MODELS)]
        cursor.executemany(
            "INSERT INTO registered_models (workspace, name, creation_time, last_updated_time) "
            "VALUES ('default', %s, 1, 1)",
            [(name,) for name in everything],
        )
        cursor.executemany(
            "INSERT INTO model_versions (workspace, name, version, creation_time, last_updated_time, current_stage, "
            "source, status) VALUES ('default', %s, %s, 1, 1, 'None', %s, 'READY')",
            [(name, number, f"s3://bucket/{name}/{number}") for name in names for number in range(1, VERSIONS + 1)],
        )
        cursor.executemany(
            "INSERT INTO registered_model_aliases (workspace, name, alias, version) "
            "VALUES ('default', %s, 'champion', %s)",
            [(name, VERSIONS // 2) for name in names],
        )
        cursor.executemany(
            "INSERT INTO registered_model_tags (workspace, name, key, value) VALUES ('default', %s, 'team', 'blue')",
            [(name,) for name in names],
        )
        cursor.execute("ANALYZE")


@contextmanager
def our_server(work: Path, workers: int) -> Iterator[tuple[int, int]]:
    """`uvicorn controlplane.asgi:application`; gives (pid, port)."""
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", "controlplane.asgi:application", "--host", "127.0.0.1"]
    argv += ["--port", str(port), "--no-access-log", "--log-level", "warning", "--workers", str(workers)]
    with started(argv, ready_url=f"http://127.0.0.1:{port}/livez", log=work / "ours.log") as process:
        yield process.pid, port


@contextmanager
def their_server(work: Path, database_url: str) -> Iterator[tuple[int, int]]:
    """`mlflow server` in its fastest form: gunicorn, two workers with eight threads; gives (pid, port)."""
    port = free_port()
    backend = database_url.replace("postgresql://", "postgresql+psycopg://", 1)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it looks for gunicorn there
    argv = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
    argv += ["--backend-store-uri", backend, "--default-artifact-root", str(work / "artifacts")]
    argv += ["--gunicorn-opts", "--worker-class gthread --threads 8 --log-level warning"]
    ready = f"http://127.0.0.1:{port}/health"
    with started(argv, ready_url=ready, log=work / "theirs.log", seconds=400.0) as process:
        yield process.pid, port


def message(method: str, port: int, path: str, *, key: str = "", body: bytes = b"") -> bytes:
    """One request as bytes."""
    head = f"{method} /api/2.0/mlflow/{path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    head += f"authorization: Bearer {key}\r\n" if key else ""
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def page_paths(port: int, key: str) -> list[str]:
    """The pages of the walk through all models, 100 each, as one client follows the tokens."""
    import logging

    import httpx

    logging.getLogger("httpx").setLevel(logging.WARNING)
    plain = "registered-models/search"
    query: dict[str, Any] = {"max_results": 100, "filter": "tag.`mlflow.prompt.is_prompt` != 'true'"}
    headers = {"authorization": f"Bearer {key}"} if key else {}
    paths = []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/2.0/mlflow/", headers=headers, timeout=60) as client:
        while True:
            request = client.build_request("GET", plain, params=query)
            paths.append(f"{plain}?{request.url.query.decode()}")
            answer = client.send(request).raise_for_status().json()
            if not answer.get("next_page_token"):
                return paths[:-1]
            query["page_token"] = answer["next_page_token"]
