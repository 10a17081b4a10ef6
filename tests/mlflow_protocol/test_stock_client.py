"""The stock client, unchanged, with a tracking store of its own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.mlflow_protocol.server import Server

# mlflow's own deprecations (stages, pickles) are not ours to fail on
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]


def make_model(mlflow: Any) -> Any:
    class Doubler(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            return model_input * 2

    return Doubler()


def entered(client: Any, name: str, count: int) -> list[Any]:
    """A model with versions whose bytes nobody here can see."""
    client.create_registered_model(name)
    return [client.create_model_version(name, f"s3://elsewhere/{number}") for number in range(1, count + 1)]


def refused(call: Any, *given: Any, **named: Any) -> tuple[str, str]:
    """(error code, message) of a call that must fail."""
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as fault:
        call(*given, **named)
    return fault.value.error_code, fault.value.message


def test_a_training_script_registers_and_everybody_loads_by_version_alias_and_latest(
    mlflow: Any, client: Any, name: str
) -> None:
    import pandas as pd

    mlflow.set_experiment("e")
    with mlflow.start_run():
        info = mlflow.pyfunc.log_model(
            name="model", python_model=make_model(mlflow), registered_model_name=name, pip_requirements=["mlflow"]
        )
    assert int(info.registered_model_version) == 1
    client.set_registered_model_alias(name, "champion", "1")
    frame = pd.DataFrame({"a": [1, 2]})
    for reference in (f"models:/{name}/1", f"models:/{name}@champion", f"models:/{name}/latest"):
        assert mlflow.pyfunc.load_model(reference).predict(frame)["a"].tolist() == [2, 4]
    again = mlflow.register_model(info.model_uri, name)
    assert int(again.version) == 2
    assert again.status == "READY"
    assert client.get_model_version(name, "2").source.startswith("models:/m-")


def test_a_foreign_source_is_kept_to_the_letter_and_given_back(client: Any, name: str) -> None:
    client.create_registered_model(name)
    for source in ("s3://bucket/ä b/%20", "/not/of/this/machine", "runs:/" + "0" * 32 + "/model", "dbfs:/x"):
        made = client.create_model_version(name, source, description="d", tags={"k": "v"}, run_link="http://r")
        assert (made.source, made.status, made.description) == (source, "READY", "d")
        assert client.get_model_version_download_uri(name, made.version) == source
    assert client.get_model_version(name, "1").tags == {"k": "v"}


def test_models_are_searched_with_filters_and_pages(client: Any, name: str) -> None:
    for number in range(7):
        client.create_registered_model(f"{name} {number}", tags={"team": "red" if number % 2 else "blue"})
    like = f"name LIKE '{name} %'"
    first = client.search_registered_models(like, max_results=3)
    assert [model.name[-1] for model in first] == ["0", "1", "2"]
    client.create_registered_model(f"{name} 00")  # stands before the place where the first page ended
    second = client.search_registered_models(like, max_results=3, page_token=first.token)
    third = client.search_registered_models(like, max_results=3, page_token=second.token)
    assert [model.name[-1] for model in [*second, *third]] == ["3", "4", "5", "6"]
    assert not third.token
    red = client.search_registered_models(f"{like} AND tags.team = 'red'", order_by=["name DESC"])
    assert [model.name[-1] for model in red] == ["5", "3", "1"]
    assert refused(client.search_registered_models, "name = 'a' OR name = 'b'")[0] == "INVALID_PARAMETER_VALUE"
    assert refused(client.search_registered_models, like, page_token="?")[0] == "INVALID_PARAMETER_VALUE"
    other = refused(client.search_registered_models, "name = 'x'", page_token=first.token)
    assert "another filter" in other[1]


def test_versions_are_searched_and_carry_their_aliases_and_tags(client: Any, name: str) -> None:
    entered(client, name, 5)
    client.set_registered_model_alias(name, "blue", "2")
    client.set_model_version_tag(name, "4", "odd key", "it's")
    found = client.search_model_versions(f"name = '{name}'")
    assert sorted(int(one.version) for one in found) == [1, 2, 3, 4, 5]
    assert {one.version: one.aliases for one in found if one.aliases} == {"2": ["blue"]}
    tagged = client.search_model_versions(f"name = '{name}' AND tags.`odd key` = \"it's\"")
    assert [one.version for one in tagged] == ["4"]
    few = client.search_model_versions(
        f"name = '{name}' and version_number > 2", order_by=["version_number ASC"], max_results=2
    )
    rest = client.search_model_versions(
        f"name = '{name}' and version_number > 2", order_by=["version_number ASC"], max_results=2, page_token=few.token
    )
    assert [one.version for one in [*few, *rest]] == ["3", "4", "5"]
    assert client.get_registered_model(name).aliases == {"blue": "2"}


def test_tags_and_descriptions_are_set_and_taken_away(client: Any, name: str) -> None:
    entered(client, name, 1)
    client.set_registered_model_tag(name, "a", "1")
    client.set_registered_model_tag(name, "b", "")
    client.delete_registered_model_tag(name, "a")
    client.delete_registered_model_tag(name, "never there")
    client.update_registered_model(name, "words")
    model = client.get_registered_model(name)
    assert (model.tags, model.description) == ({"b": ""}, "words")
    client.set_model_version_tag(name, "1", "a", "1")
    client.delete_model_version_tag(name, "1", "a")
    client.update_model_version(name, "1", "more words")
    version = client.get_model_version(name, "1")
    assert (version.tags, version.description) == ({}, "more words")
    assert "read-only" in refused(client.set_model_version_tag, name, "1", "pilothouse.semver", "9.9.9")[1]


def test_stages_still_work_and_production_holds_one(client: Any, name: str) -> None:
    entered(client, name, 3)
    assert client.transition_model_version_stage(name, "1", "production").current_stage == "Production"
    code, text = refused(client.transition_model_version_stage, name, "2", "Production")
    assert (code, "archive_existing_versions=True" in text) == ("RESOURCE_CONFLICT", True)
    client.transition_model_version_stage(name, "2", "Production", archive_existing_versions=True)
    client.transition_model_version_stage(name, "3", "Staging")
    assert client.get_model_version(name, "1").current_stage == "Archived"
    latest = {one.current_stage: one.version for one in client.get_latest_versions(name)}
    assert latest == {"Archived": "1", "Production": "2", "Staging": "3"}
    assert [one.version for one in client.get_latest_versions(name, ["Staging"])] == ["3"]
    wrong = refused(client.transition_model_version_stage, name, "1", "Archived", archive_existing_versions=True)
    assert wrong[0] == "INVALID_PARAMETER_VALUE"
    assert refused(client.transition_model_version_stage, name, "1", "Nowhere")[0] == "INVALID_PARAMETER_VALUE"


def test_a_renamed_and_a_deleted_model_never_give_a_number_twice(client: Any, name: str) -> None:
    entered(client, name, 2)
    client.rename_registered_model(name, f"{name} new")
    assert client.get_model_version(f"{name} new", "2").source == "s3://elsewhere/2"
    client.create_registered_model(name)
    assert client.create_model_version(name, "s3://other").version == "3"
    client.delete_model_version(name, "3")
    assert refused(client.get_model_version, name, "3")[0] == "RESOURCE_DOES_NOT_EXIST"
    client.delete_registered_model(name)
    assert refused(client.get_registered_model, name) == (
        "RESOURCE_DOES_NOT_EXIST",
        f"RESOURCE_DOES_NOT_EXIST: Registered Model with name={name} not found",
    )
    client.create_registered_model(name)
    assert client.create_model_version(name, "s3://third").version == "4"


def test_errors_have_the_codes_and_texts_that_scripts_match(client: Any, name: str) -> None:
    entered(client, name, 1)
    for call, given, code, text in (
        (client.create_registered_model, (name,), "RESOURCE_ALREADY_EXISTS", f"Registered Model (name={name}) already"),
        (client.create_registered_model, ("a/b",), "INVALID_PARAMETER_VALUE", "Names cannot contain '/' or ':'"),
        (
            client.get_registered_model,
            ("none",),
            "RESOURCE_DOES_NOT_EXIST",
            "Registered Model with name=none not found",
        ),
        (client.get_model_version, (name, "9"), "RESOURCE_DOES_NOT_EXIST", f"(name={name}, version=9) not found"),
        (client.get_model_version, (name, "x"), "INVALID_PARAMETER_VALUE", "must be an integer, got 'x'"),
        (client.get_model_version_by_alias, (name, "no"), "INVALID_PARAMETER_VALUE", "alias no not found"),
        (client.set_registered_model_alias, (name, "latest", "1"), "INVALID_PARAMETER_VALUE", "is reserved"),
        (client.set_registered_model_alias, (name, "v2", "1"), "INVALID_PARAMETER_VALUE", "is reserved"),
        (client.set_registered_model_alias, (name, "s2-1", "1"), "INVALID_PARAMETER_VALUE", "is reserved"),
        (client.set_registered_model_tag, (name, "a\nb", "1"), "INVALID_PARAMETER_VALUE", "Names may only contain"),
        (client.set_registered_model_tag, (name, "k", "x" * 100_001), "INVALID_PARAMETER_VALUE", "maximum length"),
        (client.create_model_version, ("none", "s3://x"), "RESOURCE_DOES_NOT_EXIST", "name=none not found"),
        (client.create_model_version, (name, "models:/none/7"), "RESOURCE_DOES_NOT_EXIST", "name=none, version=7"),
        (client.create_model_version, (name, "x" * 2001), "INVALID_PARAMETER_VALUE", "maximum length of 2000"),
    ):
        found = refused(call, *given)
        assert found[0] == code, found
        assert text in found[1], found


def test_eight_clients_at_once_get_versions_one_to_n_and_one_production(client: Any, name: str) -> None:
    client.create_registered_model(name)
    gate = threading.Barrier(8)

    def work(worker: int) -> list[int]:
        gate.wait(30)
        return [int(client.create_model_version(name, f"s3://{worker}/{turn}").version) for turn in range(6)]

    with ThreadPoolExecutor(8) as pool:
        numbers = [number for found in pool.map(work, range(8)) for number in found]
        assert sorted(numbers) == list(range(1, 49))
        list(
            pool.map(
                lambda number: client.transition_model_version_stage(name, str(number), "Production", True),
                range(1, 25),
            )
        )
    found = client.search_model_versions(f"name = '{name}'")
    assert [one.current_stage for one in found].count("Production") == 1
    assert sorted(int(one.version) for one in found) == list(range(1, 49))


def test_a_protected_alias_moves_by_request_only(client: Any, server: Server, name: str) -> None:
    entered(client, name, 2)
    client.set_registered_model_alias(name, "champion", "1")
    code, text = refused(client.set_registered_model_alias, name, "champion", "2")
    assert code == "PERMISSION_DENIED"
    assert f"{server.url}/models/promotions/pr_" in text
    assert refused(client.set_registered_model_alias, name, "champion", "2")[1] == text
    assert refused(client.delete_registered_model_alias, name, "champion")[0] == "PERMISSION_DENIED"
    assert client.get_model_version_by_alias(name, "champion").version == "1"
    client.set_registered_model_alias(name, "free", "1")
    client.set_registered_model_alias(name, "free", "2")
    client.delete_registered_model_alias(name, "free")
    client.delete_registered_model_alias(name, "free")
    assert client.get_registered_model(name).aliases == {"champion": "1"}


def test_a_copied_version_knows_where_its_bytes_are(client: Any, name: str) -> None:
    (original,) = entered(client, name, 1)
    copied = client.copy_model_version(f"models:/{name}/1", f"{name} copy")
    assert copied.source == f"models:/{name}/1"
    assert client.get_model_version_download_uri(f"{name} copy", "1") == original.source


def test_prompts_live_in_the_same_names_and_out_of_model_searches(mlflow: Any, client: Any, name: str) -> None:
    prompt = "p" + "".join(letter for letter in name if letter.isalnum())
    mlflow.genai.register_prompt(name=prompt, template="Hello {{who}}")
    assert mlflow.genai.load_prompt(f"prompts:/{prompt}/1").template == "Hello {{who}}"
    assert client.search_registered_models(f"name = '{prompt}'") == []
    assert refused(client.create_registered_model, prompt)[0] == "RESOURCE_ALREADY_EXISTS"


def test_webhooks_are_kept_without_showing_their_secret(
    client: Any, server: Server, name: str, monkeypatch: Any
) -> None:
    from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent, WebhookStatus

    created = WebhookEvent(WebhookEntity.MODEL_VERSION, WebhookAction.CREATED)
    given = {"name": "hook", "url": "http://127.0.0.1:1/hook", "events": [created], "secret": "s"}
    assert refused(client.create_webhook, **given)[0] == "PERMISSION_DENIED"  # Alice is no admin
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", server.keys["ada"])
    made = client.create_webhook(**given)
    assert (made.name, made.events, made.secret) == ("hook", [created], None)
    changed = client.update_webhook(made.webhook_id, status=WebhookStatus.DISABLED, description="off")
    assert (changed.status, changed.description) == (WebhookStatus.DISABLED, "off")
    assert client.get_webhook(made.webhook_id).url == given["url"]
    assert made.webhook_id in [one.webhook_id for one in client.list_webhooks()]
    tried = client.test_webhook(made.webhook_id)
    assert (tried.success, bool(tried.error_message)) == (False, True)
    client.delete_webhook(made.webhook_id)
    assert refused(client.get_webhook, made.webhook_id)[0] == "RESOURCE_DOES_NOT_EXIST"


def test_a_key_may_be_a_password_and_a_prefix_may_stand_before_the_path(server: Server) -> None:
    for base in (server.url, f"{server.url}/w/team", f"{server.url}/ajax"):
        path = f"{base}/api/2.0/mlflow/registered-models/search".replace("/ajax/api", "/ajax-api")
        assert httpx.get(path, auth=("anybody", server.keys["bob"]), timeout=30).status_code == 200
        assert httpx.get(path, timeout=30).json()["error_code"] == "UNAUTHENTICATED"
    known = httpx.get(f"{server.url}/api/3.0/mlflow/server-info", timeout=30).json()
    assert known["workspaces_enabled"] is False
