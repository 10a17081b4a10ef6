"""A stock MLflow server is copied whole, a second run writes nothing, and a killed run goes on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db.models import Max
from mlflow.tracking import MlflowClient

from apps.accounts.domain.roles import Role
from apps.accounts.models import Team
from apps.accounts.selectors import team_default
from apps.accounts.services.access import actor_of
from apps.audit.models import Event
from apps.kernel.actor import Actor
from apps.kernel.errors import Conflict, InvalidInput, NotFound
from apps.registry.domain.importing import ImportState, remote_model
from apps.registry.domain.words import ModelKind, Trust
from apps.registry.models import Alias, ImportJob, Model, ModelTag, ModelVersion, VersionTag
from apps.registry.selectors.imports import import_get, import_show
from apps.registry.services import importing
from apps.registry.services.catalogue import model_register
from apps.registry.services.importing import import_again, import_create, import_stop
from tests.cast import make_actor, make_user
from tests.registry.files import work
from tests.registry.stock import ada, stock_server, ways
from tests.registry.trees import make_artifact

__all__ = ["ada", "ways"]

pytestmark = pytest.mark.django_db
ODD = ["Prévision №7", "with space", "it's", "a.b-c_d", "UPPER", "%41", 'quo"te']


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A stock ``mlflow server`` on SQLite with 50 models: holes in the numbers, aliases, stages, prompts, odd names."""
    home = tmp_path_factory.mktemp("mlflow")
    with stock_server(home) as address:
        fill(address, home)
        yield address


def fill(address: str, home: Path) -> None:
    client = MlflowClient(tracking_uri=address, registry_uri=address)
    for number in range(50 - len(ODD) - 2):
        client.create_registered_model(f"model-{number:02}", {"team": f"t{number % 3}"}, f"The {number}th.")
    for name in ODD:
        client.create_registered_model(name, {}, "odd")
    artifact = make_artifact(home / "saved")
    run = client.create_run("0").info
    client.log_artifacts(run.run_id, str(artifact), "model")
    for name in ["model-00", "model-01", *ODD]:
        for count in range(4):
            is_here = name == "model-00"
            source = f"{run.artifact_uri}/model" if is_here else f"s3://bucket/{count}"
            run_id = run.run_id if is_here else None
            client.create_model_version(
                name, source, run_id, tags={"n": str(count), "empty": ""}, description=f"v{count}"
            )
        client.delete_model_version(name, "2")
        client.set_registered_model_alias(name, "champion", "3")
        client.set_registered_model_alias(name, "Old-1", "1")
    for version, stage in (("1", "Staging"), ("4", "Production")):
        with pytest.warns(FutureWarning, match="deprecated"):
            client.transition_model_version_stage("model-01", version, stage)
    for name in ("greeting", "farewell"):
        client.register_prompt(name, "Hello {{name}}", tags={"x": "y"})


def there(address: str) -> dict[str, Any]:
    """What the stock client sees, in one comparable form."""
    client = MlflowClient(tracking_uri=address, registry_uri=address)
    models = [*client.search_registered_models(max_results=1000)]
    models += client.search_registered_models(filter_string="tag.`mlflow.prompt.is_prompt` = 'true'", max_results=1000)
    found = {}
    for one in models:
        # the store below the client: the client itself refuses to show a prompt as a model
        full = client._get_registry_client().store.get_registered_model(one.name)
        is_prompt = bool(full._is_prompt())
        extra = " AND tag.`mlflow.prompt.is_prompt` = 'true'" if is_prompt else ""
        mark = '"' if "'" in one.name else "'"
        versions = client.search_model_versions(f"name = {mark}{one.name}{mark}{extra}")
        found[one.name] = {
            "description": full.description or "",
            "tags": dict(full._tags),
            "aliases": {alias: int(version) for alias, version in full.aliases.items()},
            "times": (full.creation_timestamp, full.last_updated_timestamp),
            "versions": {
                int(v.version): (
                    v.source,
                    v.description or "",
                    v.current_stage.lower(),
                    dict(v.tags),
                    v.creation_timestamp,
                )
                for v in versions
            },
        }
    return found


def milliseconds(moment: Any) -> int:
    return round(moment.timestamp() * 1000)


def here() -> dict[str, Any]:
    return {
        one.name: {
            "description": one.description,
            "tags": {tag.key: tag.value for tag in one.tags.all()},
            "aliases": {alias.name: alias.version.number for alias in one.aliases.all()},
            "times": (milliseconds(one.created_at), milliseconds(one.updated_at)),
            "versions": {
                v.number: (
                    v.source_uri,
                    v.description,
                    v.stage,
                    {tag.key: tag.value for tag in v.tags.all()},
                    milliseconds(v.created_at),
                )
                for v in ModelVersion.objects.filter(model=one)
            },
        }
        for one in Model.objects.all()
    }


def rows() -> list[Any]:
    """Everything that an import writes, row versions included: xmin changes with every UPDATE, even an equal one."""
    tables = (Model, ModelVersion, ModelTag, VersionTag, Alias)
    return [
        sorted(
            table._base_manager.extra(select={"xmin": f"{table._meta.db_table}.xmin::text"}).values_list("pk", "xmin")
        )
        for table in tables
    ]


def test_a_stock_server_is_copied_whole_and_a_second_run_writes_nothing(stock: str, ada: Actor) -> None:
    job = import_create(actor=ada, url=stock + "/")
    work()
    job.refresh_from_db()
    assert (job.state, job.error) == (ImportState.DONE, "")
    expected, found = there(stock), here()
    assert len(expected) == 50
    assert found == expected
    assert job.counts == {"models": 50, "versions": 9 * 3 + 2, "written": job.counts["written"], "skipped": 0}
    assert Model.objects.get(name="model-00").next_number == 5
    assert Model.objects.filter(kind=ModelKind.PROMPT).count() == 2
    assert not ModelVersion.objects.exclude(trust=Trust.UNVERIFIED).exists()

    before, last = rows(), Event.objects.aggregate(last=Max("seq"))["last"]
    import_again(actor=ada, job_id=job.pk)
    work()
    job.refresh_from_db()
    assert (job.state, job.run, job.counts["written"]) == (ImportState.DONE, 2, 0)
    assert rows() == before
    assert set(Event.objects.filter(seq__gt=last).values_list("verb", flat=True)) <= {"import.created"}


def test_a_run_that_was_cut_goes_on_and_ends_with_the_same(
    stock: str, ada: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = import_create(actor=ada, url=stock)
    real, count = importing.model_import, 0

    def dying(*args: Any) -> Any:
        nonlocal count
        count += 1
        if count in {7, 20}:
            raise SystemExit("as if killed")
        return real(*args)

    monkeypatch.setattr(importing, "model_import", dying)
    for _ in range(2):
        with pytest.raises(SystemExit):
            importing.import_run(job.pk)
        job.refresh_from_db()
        assert job.state == ImportState.RUNNING
    importing.import_run(job.pk)
    work()
    job.refresh_from_db()
    assert job.state == ImportState.DONE
    assert job.counts["models"] == 50
    assert here() == there(stock)


def test_files_come_along_where_the_server_hands_them_out(stock: str, ada: Actor) -> None:
    import_create(actor=ada, url=stock, with_artifacts=True)
    work()
    brought = ModelVersion.objects.filter(model__name="model-00").order_by("number")
    assert [(one.number, one.trust, one.semver) for one in brought] == [
        (1, Trust.VERIFIED, "1.0.0"),
        (3, Trust.VERIFIED, "1.0.1"),
        (4, Trust.VERIFIED, "1.0.2"),
    ]
    left = ModelVersion.objects.filter(model__name="model-01")
    assert {one.trust for one in left} == {Trust.UNVERIFIED}


def test_what_changes_there_changes_here_and_what_is_ours_stays(stock: str, ada: Actor) -> None:
    model_register(actor=make_actor("alice"), name="model-02", description="ours")
    job = import_create(actor=ada, url=stock)
    work()
    job.refresh_from_db()
    assert job.counts["models"] == 49
    assert [one["model"] for one in job.skipped] == ["model-02"]
    assert Model.objects.get(name="model-02").description == "ours"
    client = MlflowClient(tracking_uri=stock, registry_uri=stock)
    client.set_registered_model_alias("model-01", "champion", "4")
    client.update_registered_model("model-03", "new words")
    try:
        import_again(actor=ada, job_id=job.pk)
        work()
        job.refresh_from_db()
        assert job.counts["written"] == 2
        assert Alias.objects.get(model__name="model-01", name="champion").version.number == 4
        assert Model.objects.get(name="model-03").description == "new words"
    finally:
        client.set_registered_model_alias("model-01", "champion", "3")
        client.update_registered_model("model-03", "The 3th.")


def test_a_server_that_is_away_is_asked_again_later_and_a_wrong_one_not(ada: Actor, settings: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    settings.PILOTHOUSE_OUTBOUND_ALLOW = (address,)
    job = import_create(actor=ada, url=f"http://{address}", credential="s3cret-canary")
    work()
    job.refresh_from_db()
    assert (job.state, job.attempts) == (ImportState.RUNNING, 1)
    assert "cannot be reached" in job.error
    assert "s3cret" not in job.credential + str(import_show(job)) + str([one.detail for one in Event.objects.all()])
    for _ in range(importing.MAX_ATTEMPTS):
        ImportJob.objects.update(due_at="2020-01-01T00:00:00Z")
        importing.import_run(job.pk)
    job.refresh_from_db()
    assert job.state == ImportState.FAILED

    settings.PILOTHOUSE_OUTBOUND_ALLOW = ("127.0.0.2:80",)
    private = import_create(actor=ada, url="http://127.0.0.2:80")
    settings.PILOTHOUSE_OUTBOUND_ALLOW = ()
    work()
    private.refresh_from_db()
    assert private.state == ImportState.FAILED
    assert "PILOTHOUSE_OUTBOUND_ALLOW" in private.error


@pytest.mark.parametrize(
    ("url", "allowed", "line"),
    [
        ("http://127.0.0.2", (), "PILOTHOUSE_OUTBOUND_ALLOW=127.0.0.2:80"),
        ("http://LocalHost:5000/mlflow/", (), "PILOTHOUSE_OUTBOUND_ALLOW=localhost:5000"),
        ("https://[::1]", ("a.example",), "PILOTHOUSE_OUTBOUND_ALLOW=…,[::1]:443"),
        ("https://mlflow.example.com:5000", (), "PILOTHOUSE_OUTBOUND_ALLOW=mlflow.example.com:5000"),
    ],
)
def test_a_server_that_is_not_called_is_refused_before_anything_is_made_with_the_line_that_lets_it_be_called(
    ada: Actor, settings: Any, url: str, allowed: tuple[str, ...], line: str
) -> None:
    settings.PILOTHOUSE_OUTBOUND_ALLOW = allowed
    with pytest.raises(InvalidInput) as refused:
        import_create(actor=ada, url=url)
    assert f"{line} " in refused.value.detail
    assert [field.pointer for field in refused.value.fields] == ["/url"]
    assert not ImportJob.objects.exists()
    settings.PILOTHOUSE_OUTBOUND_ALLOW = (line.partition("=")[2].removeprefix("…,"),)
    job = import_create(actor=ada, url=url)
    settings.PILOTHOUSE_OUTBOUND_ALLOW = ()
    ImportJob.objects.update(state=ImportState.DONE)
    with pytest.raises(InvalidInput, match="start Pilothouse again"):
        import_again(actor=ada, job_id=job.pk)


def test_a_stopped_import_stays_stopped(stock: str, ada: Actor) -> None:
    job = import_create(actor=ada, url=stock, sync_seconds=60)
    import_stop(actor=ada, job_id=job.pk)
    work()
    assert importing.import_due() == 0
    assert not Model.objects.exists()
    with pytest.raises(Conflict, match="imported from already"):
        import_create(actor=ada, url=stock)
    for url in ("file:///etc", "http://[", "http://mlflow.example.com:99999"):
        with pytest.raises(InvalidInput, match="address"):
            import_create(actor=ada, url=url)


def test_an_import_belongs_to_the_team_that_it_was_made_for(stock: str, ada: Actor) -> None:
    fraud = Team.objects.create(slug="fraud", name="Fraud")
    with pytest.raises(InvalidInput, match="no team nobody") as refused:
        import_create(actor=ada, url=stock, team="nobody")
    assert [field.pointer for field in refused.value.fields] == ["/team"]
    job = import_create(actor=ada, url=stock, team="fraud")
    work()
    assert set(Model.objects.values_list("team__slug", flat=True)) == {"fraud"}
    ours = actor_of(make_user("frank", frozenset({Role.ADMIN}), team=fraud))
    theirs = actor_of(make_user("tilda", frozenset({Role.ADMIN}), team=team_default()))
    assert import_get(job.pk, actor=ours).pk == job.pk
    with pytest.raises(NotFound):
        import_get(job.pk, actor=theirs)
    for act in (import_again, import_stop):
        with pytest.raises(NotFound):
            act(actor=theirs, job_id=job.pk)
    with pytest.raises(InvalidInput, match="no team fraud"):
        import_create(actor=theirs, url="https://mlflow.example.com", team="fraud")


@pytest.mark.parametrize(
    "version", [{"version": "x"}, {"version": "-1"}, {"version": "99999999999"}, {"version": "1", "source": "x" * 3000}]
)
def test_what_cannot_be_kept_is_refused_with_a_reason(version: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        remote_model({"name": "m"}, [version])
