"""A process that claims an Idempotency-Key, says so, and works until it is killed (tests/accounts/test_claims.py)."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

import django

django.setup()

from apps.accounts.models import SetupToken  # noqa: E402
from apps.accounts.services.idempotency import Answer, idempotent_run  # noqa: E402

WHERE = sys.argv[1] if len(sys.argv) > 1 else "prepare"


def prepare() -> Callable[[], Answer]:
    if WHERE == "prepare":
        _stay()
    return effect


def effect() -> Answer:
    SetupToken.objects.create(token_hash="of the process that was killed")
    _stay()
    return Answer(201, {"made": "by the process that was killed"})


def _stay() -> None:
    sys.stdout.write("here\n")
    sys.stdout.flush()
    time.sleep(600)


if __name__ == "__main__":
    idempotent_run(principal="user:1", route="POST /x", key="k", request_body={"a": 1}, prepare=prepare)
