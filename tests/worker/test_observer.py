"""The observer as a real process: it relays, follows a real agent, and ends when it is told."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import redis
from django.conf import settings
from django.db import transaction

from agent.testing import RunningAgent, running_agent
from apps.kernel.live import LIVE_CHANNEL
from apps.kernel.models import OutboxEntry
from apps.kernel.services.outbox import publish_live
from apps.targets.models import Endpoint
from apps.targets.selectors import observed_of
from apps.targets.services.connect import endpoint_create, target_create
from apps.targets.services.freshness import targets_answered_at
from apps.targets.services.reconcile import endpoint_reconcile
from tests.agent.support import STUB
from tests.fakes.registry import make_version
from tests.fakes.targets import ALICE
from tests.worker.support import eventually, running

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    with running_agent(tmp_path, serving_command=STUB) as started:
        yield started


def publish(revision: int) -> None:
    with transaction.atomic():
        publish_live("fleet", id="ep_1", revision=revision)


def test_it_relays_what_commits_while_it_runs_and_ends_cleanly(tmp_path: Path) -> None:
    with redis.Redis.from_url(settings.PILOTHOUSE_REDIS_URL) as client, client.pubsub() as pubsub:
        pubsub.subscribe(LIVE_CHANNEL)
        assert pubsub.get_message(timeout=10) is not None
        publish(1)
        with running("-m", "worker.observer", log=tmp_path / "observer.log") as observer:
            revisions = []
            for revision in (1, 2):
                message = eventually(lambda: pubsub.get_message(timeout=1))
                revisions.append(orjson.loads(message["data"])["revision"])
                if revision == 1:
                    publish(2)
            assert revisions == [1, 2]
            eventually(lambda: not OutboxEntry.objects.exists())
            observer.send_signal(signal.SIGTERM)
            assert observer.wait(30) == 0


@pytest.mark.real
def test_it_follows_a_target_that_appears_goes_away_and_comes_back(agent: RunningAgent, tmp_path: Path) -> None:
    with running("-m", "worker.observer", log=tmp_path / "observer.log") as observer:
        target = target_create(
            actor=ALICE,
            name="here",
            kind="local",
            connection={"url": agent.url, "token_file": str(agent.token_file)},
        )
        version = make_version("late-arrival", "1.0.0", source_uri=tmp_path.as_uri())
        endpoint_id = endpoint_create(
            actor=ALICE,
            name="late-arrival",
            target_id=target.pk,
            model_id=version.model_id,
            version_id=version.pk,
        ).pk
        assert endpoint_reconcile(endpoint_id, holder="test")

        def row() -> Endpoint:
            return Endpoint.objects.get(pk=endpoint_id)

        def is_applied() -> bool:
            observed = observed_of(row())
            return observed is not None and observed.applied_generation == 1

        eventually(is_applied)
        eventually(lambda: targets_answered_at([target.pk]).keys() == {target.pk})

        agent.kill()
        eventually(lambda: row().observe_error)
        assert is_applied(), "what was last seen stays"
        agent.start()
        eventually(lambda: not row().observe_error)
        assert row().applied_generation == 1
        observer.send_signal(signal.SIGTERM)
        assert observer.wait(30) == 0
