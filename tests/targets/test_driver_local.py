"""The local driver, against a real agent with real Envoy and real serving processes; and against what is no agent."""

from __future__ import annotations

import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.testing import RunningAgent, free_ports, running_agent
from apps.kernel.errors import DriverError, InvalidInput, NotFound
from apps.targets.domain.driver import Support, TargetUnreachable
from apps.targets.domain.plan import FULL_BP
from apps.targets.drivers.local import LocalDriver, connect
from apps.targets.models import Target
from apps.targets.services.observe import endpoint_logs
from tests.fakes.targets import make_site
from tests.targets.conformance import DriverConformance, Subject

MODEL = Path(__file__).parent.parent / "agent" / "models" / "tiny.py"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types.schema import ColSpec, DataType, Schema

        folder = tmp_path_factory.mktemp("artifact") / "twice"
        signature = ModelSignature(inputs=Schema([ColSpec(DataType["double"], "x")]))
        mlflow.pyfunc.save_model(folder, python_model=str(MODEL), signature=signature, pip_requirements=["mlflow"])
    return folder


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    with running_agent(tmp_path_factory.mktemp("local")) as running:
        yield running


@pytest.fixture
def subject(agent: RunningAgent, artifact: Path) -> Subject:
    from serving.artifact import artifact_digest

    return Subject(
        driver=connect({"url": agent.url, "token_file": str(agent.token_file)}),
        artifact_uri=artifact.as_uri(),
        artifact_digest=artifact_digest(artifact),
        broken_digest="sha256:" + "0" * 64,
        pass_time=lambda: time.sleep(0.25),
        patience=400,
    )


@pytest.mark.real
class TestLocalDriver(DriverConformance):
    def test_the_gateway_is_exact_and_says_where_it_is(self, subject: Subject) -> None:
        report = subject.driver.probe()
        assert report.capabilities.weights is Support.EXACT
        assert report.gateway_url.startswith("http://")
        assert report.facts["free_bytes"] > 0

    def test_logs_of_a_variant_can_be_read(self, subject: Subject) -> None:
        subject.apply(subject.plan(1, {"a": FULL_BP}, subject.variant("a")))
        assert isinstance(subject.driver, LocalDriver)
        assert subject.driver.logs(subject.endpoint, "a", lines=10)

    @pytest.mark.django_db
    def test_a_variant_without_logs_is_not_found_and_no_outage(self, agent: RunningAgent) -> None:
        site = make_site()
        connection = {"url": agent.url, "token_file": str(agent.token_file)}
        Target.objects.filter(pk=site.target.pk).update(kind="local", connection=connection)
        with pytest.raises(NotFound) as missing:
            endpoint_logs(site.endpoint.pk, "v9-9-9")
        assert "v9-9-9" in missing.value.detail

    def test_a_watch_answers_when_something_changes(self, subject: Subject) -> None:
        assert isinstance(subject.driver, LocalDriver)
        revision, before = subject.driver.watch(after_revision=0, wait_seconds=0)
        assert subject.endpoint not in {seen.endpoint for seen in before}
        subject.driver.apply(subject.plan(1, {"a": FULL_BP}, subject.variant("a")), epoch=1)
        newer, after = subject.driver.watch(after_revision=revision, wait_seconds=20)
        assert newer != revision
        assert subject.endpoint in {seen.endpoint for seen in after}

    def test_a_wrong_token_is_a_sentence(self, agent: RunningAgent, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("wrong")
        with pytest.raises(DriverError) as refused:
            LocalDriver(agent.url, tmp_path / "token").probe()
        assert refused.value.code == "agent_token_refused"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("any")
    return path


def test_a_port_where_nobody_listens_is_unreachable_and_worth_a_retry(token_file: Path) -> None:
    with pytest.raises(TargetUnreachable) as unreachable:
        LocalDriver(f"http://127.0.0.1:{free_ports(1)[0]}", token_file).observe("late-arrival")
    assert unreachable.value.is_retryable


def test_an_agent_that_never_answers_is_given_up(token_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.targets.drivers.local.ANSWER_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        driver = LocalDriver(f"http://127.0.0.1:{silent.getsockname()[1]}", token_file)
        with pytest.raises(TargetUnreachable) as unreachable:
            driver.observe("late-arrival")
    assert "in time" in unreachable.value.detail


def test_a_missing_token_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DriverError) as refused:
        LocalDriver("http://127.0.0.1:1", tmp_path / "nowhere").probe()
    assert "nowhere" in refused.value.detail


@pytest.mark.parametrize("content", [b"\xff\xfe", "schlüssel".encode()])
def test_a_token_that_no_header_can_carry_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(DriverError) as refused:
        LocalDriver("http://127.0.0.1:1", tmp_path / "token").probe()
    assert (refused.value.code, "holds no token" in refused.value.detail) == ("agent_token_unreadable", True)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput) as refused:
        connect({"url": "ftp://example.org"})
    assert refused.value.fields[0].pointer == "/connection/url"
