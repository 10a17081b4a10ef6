"""`pilothouse audit`: the real program; `verify` without a server, the rest against a live one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from apps.accounts.domain.roles import Role
from apps.accounts.services.access import actor_of
from apps.accounts.services.tokens import token_make
from tests.audit.logs import export, keys_file, sign, write
from tests.cast import make_user

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def own_keys(settings: Any, tmp_path: Path) -> None:
    settings.PILOTHOUSE_AUDIT_KEYS = str(tmp_path / "keys")
    settings.PILOTHOUSE_AUDIT_SINK = ""
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


def pilothouse(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=ROOT, env={"PATH": os.defpath, **env}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.django_db
def test_an_export_is_checked_without_server_and_key(tmp_path: Path) -> None:
    write(4)
    sign()
    path, keys = export(tmp_path), keys_file(tmp_path)
    done = pilothouse("audit", "verify", str(path), "--keys", str(keys))
    assert (done.returncode, done.stdout.startswith("Intact: 5 entries, 1 to 5; 1 signed"), done.stderr) == (
        0,
        True,
        "",
    )
    path.write_text(path.read_text().replace("mo_2", "mo_1"))
    done = pilothouse("audit", "verify", str(path), "--keys", str(keys))
    assert (done.returncode, "BROKEN at entry 3" in done.stdout) == (1, True)
    done = pilothouse("audit", "verify", str(tmp_path / "nothing"))
    assert (done.returncode, "cannot be read" in done.stderr) == (2, True)


@pytest.mark.django_db(transaction=True)
def test_the_log_is_fetched_listed_and_checked(live_server: Any, tmp_path: Path) -> None:
    write(3)
    user = make_user("ida", frozenset({Role.AUDITOR}))
    _, key = token_make(actor=actor_of(user), user=user, label="tests", roles=frozenset({Role.AUDITOR}))
    env = {"PILOTHOUSE_URL": live_server.url, "PILOTHOUSE_TOKEN": key}
    path = tmp_path / "audit.jsonl"
    done = pilothouse("audit", "export", str(path), **env)
    assert done.returncode == 0, done.stderr
    assert pilothouse("audit", "verify", str(path)).stdout.startswith("Intact: 5 entries")
    listed = pilothouse("audit", "list", "--verb", "alias.", "-o", "json", **env)
    assert [one["seq"] for one in json.loads(listed.stdout)] == [3, 2, 1]
    assert "unread" in pilothouse("audit", "status", **env).stdout
    assert json.loads(pilothouse("audit", "keys", **env).stdout) == {"keys": []}
