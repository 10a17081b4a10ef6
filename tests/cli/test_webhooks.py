"""`pilothouse webhook` as a person types it: real process, live server, real receiver, signature checked."""

from __future__ import annotations

import json

import pytest

from apps.alerts.models import Delivery, Subscription
from apps.alerts.selectors import deliveries_due
from apps.alerts.services.send import delivery_send
from tests.alerts.conftest import Receiver, receiver
from tests.alerts.test_webhooks import agrees
from tests.cli.conftest import Pilothouse, Program
from tests.stack import eventually

__all__ = ["receiver"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def pilothouse(program: Program) -> Pilothouse:
    return program("ada")


def made(pilothouse: Pilothouse, url: str) -> str:
    """The secret of a new webhook called chat."""
    done = pilothouse("webhook", "create", "chat", url, "--event", "rollout.*", "--event", "alias.moved", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert "not shown again" in done.stderr
    return str(json.loads(done.stdout)["secret"])


def sends(pilothouse: Pilothouse, *arguments: str) -> tuple[int, str, str]:
    """The program waits; meanwhile one worker's task is done here."""
    with pilothouse.start("webhook", *arguments) as process:
        for one in eventually(deliveries_due, seconds=90, what="a message"):
            delivery_send(one)
        out, err = process.communicate(timeout=90)
    return process.returncode, out, err


def test_a_webhook_is_made_tested_looked_at_and_its_message_sent_again(
    pilothouse: Pilothouse, receiver: Receiver
) -> None:
    secret = made(pilothouse, receiver.url)
    assert sends(pilothouse, "test", "chat")[0] == 0
    message = Delivery.objects.get()
    listed = pilothouse("webhook", "messages", "chat")
    assert message.pk in listed.stdout
    assert "delivered" in listed.stdout
    assert sends(pilothouse, "resend", "chat", message.pk)[0] == 0
    assert [one.headers["webhook-id"] for one in receiver.came] == [message.pk] * 2
    assert all(agrees(secret, one) for one in receiver.came)
    shown = pilothouse("webhook", "list", "-o", "json").stdout
    assert [one["name"] for one in json.loads(shown)] == ["chat"]
    assert secret not in shown + listed.stdout


def test_a_message_that_does_not_get_through_ends_with_1_and_says_why(
    pilothouse: Pilothouse, receiver: Receiver
) -> None:
    made(pilothouse, receiver.url)
    receiver.status = 500
    code, out, err = sends(pilothouse, "test", "chat")
    assert (code, "answered 500" in err, "due_at" in out) == (1, True, True)


def test_a_new_secret_signs_beside_the_old_one_and_removal_removes(pilothouse: Pilothouse, receiver: Receiver) -> None:
    old = made(pilothouse, receiver.url)
    new = json.loads(pilothouse("webhook", "rotate", "chat", "-o", "json").stdout)["secret"]
    sends(pilothouse, "test", "chat")
    assert (agrees(old, receiver.came[0]), agrees(new, receiver.came[0])) == (True, True)
    assert pilothouse("webhook", "remove", "chat").returncode == 0
    assert not Subscription.objects.exists()


def test_what_is_not_there_or_not_ones_own_is_one_sentence(program: Program) -> None:
    unknown = program("ada")("webhook", "test", "nope")
    assert (unknown.returncode, unknown.stderr.strip()) == (1, "There is no webhook nope, or you may not see it.")
    wrong = program("olga")("webhook", "create", "x", "https://example.com", "--event", "rollout.*")
    assert wrong.returncode == 6
    assert "admin" in wrong.stderr
