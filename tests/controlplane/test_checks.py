"""Settings that contradict each other, or open too much, are named before anything starts, each with the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage

from controlplane import checks_places as checks

Check = Callable[..., list[CheckMessage]]


def ids(check: Check) -> list[str]:
    found = check(None)
    assert all(one.hint for one in found), "every finding has a way out"
    return [str(one.id) for one in found]


@pytest.fixture(autouse=True)
def _narrow(settings: Any, tmp_path: Path) -> None:
    settings.PILOTHOUSE_ARTIFACT_ROOTS = (tmp_path / "artifacts",)
    settings.PILOTHOUSE_HOME = tmp_path
    settings.PILOTHOUSE_VAULT_FILE = tmp_path / "secrets" / "vault.json"
    settings.PILOTHOUSE_AUDIT_KEYS = tmp_path / "audit"
    settings.PILOTHOUSE_ARTIFACT_STORE = str(tmp_path / "artifacts")


ALL = (
    checks.limits_can_be_read, checks.keys_are_kept_apart, checks.the_audit_log_has_a_witness,
    checks.artifacts_have_a_place, checks.calls_out_are_narrow, checks.sign_in_is_safe,
)  # fmt: skip


@pytest.mark.parametrize("check", ALL)
def test_the_defaults_are_quiet(check: Check) -> None:
    assert ids(check) == []


@pytest.mark.parametrize("text", ["reed=1/1", "read=1", "read=0/5", "read=fast/5", "read=inf/5"])
def test_a_misspelt_limit_is_named(settings: Any, text: str) -> None:
    settings.PILOTHOUSE_LIMITS = text
    assert ids(checks.limits_can_be_read) == ["pilothouse.E004"]


def test_a_key_that_others_can_read_is_named(settings: Any) -> None:
    ring: Path = settings.PILOTHOUSE_VAULT_FILE
    ring.parent.mkdir()
    ring.write_text("{}")
    ring.chmod(0o640)
    assert ids(checks.keys_are_kept_apart) == ["pilothouse.E007"]
    ring.chmod(0o600)
    assert ids(checks.keys_are_kept_apart) == []


def test_keys_below_a_folder_of_artifacts_are_named(settings: Any, tmp_path: Path) -> None:
    settings.PILOTHOUSE_VAULT_FILE = tmp_path / "artifacts" / "vault.json"
    assert ids(checks.keys_are_kept_apart) == ["pilothouse.E006"]
    settings.PILOTHOUSE_VAULT_FILE = Path("vault.json")
    assert ids(checks.keys_are_kept_apart) == ["pilothouse.E005"]


def test_a_log_without_a_witness_is_fine_on_a_laptop_only(settings: Any) -> None:
    settings.PILOTHOUSE_AUDIT_SINK = ""
    assert ids(checks.the_audit_log_has_a_witness) == []
    settings.PILOTHOUSE_BASE_URL = "https://pilothouse.example.com"
    assert ids(checks.the_audit_log_has_a_witness) == ["pilothouse.W003"]


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("/srv/audit", []),
        ("file:///srv/audit", []),
        ("https://witness.example.com/x", []),
        ("memory://x", []),
        ("audit", ["pilothouse.E008"]),
        ("nonsense://bucket", ["pilothouse.E009"]),
    ],
)
def test_a_sink_is_a_folder_or_an_address_that_can_be_opened(settings: Any, address: str, wanted: list[str]) -> None:
    settings.PILOTHOUSE_AUDIT_SINK = address
    assert ids(checks.the_audit_log_has_a_witness) == wanted


def test_the_artifact_store_and_sources_can_be_opened_and_hold_no_secrets(settings: Any, tmp_path: Path) -> None:
    settings.PILOTHOUSE_ARTIFACT_STORE = "nonsense://bucket"
    assert ids(checks.artifacts_have_a_place) == ["pilothouse.E009"]
    settings.PILOTHOUSE_ARTIFACT_STORE = "/srv/artifacts"
    settings.PILOTHOUSE_ARTIFACT_SOURCES = ("relative", str(tmp_path), "/srv/models", "https://models.example.com/")
    assert ids(checks.artifacts_have_a_place) == ["pilothouse.E008", "pilothouse.W004"]


@pytest.mark.parametrize(
    ("item", "is_fine"),
    [
        ("prometheus:9090", True),
        ("10.0.0.7", True),
        ("[::1]:9090", True),
        ("http://prometheus", False),
        ("*", False),
        ("10.0.0.0/8", False),
    ],
)
def test_inner_addresses_are_opened_by_name(settings: Any, item: str, is_fine: bool) -> None:
    settings.PILOTHOUSE_OUTBOUND_ALLOW = (item,)
    assert ids(checks.calls_out_are_narrow) == ([] if is_fine else ["pilothouse.E010"])


def test_an_identity_provider_without_tls_is_named(settings: Any) -> None:
    app = {"settings": {"server_url": "http://login.example.com"}}
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": [app]}}
    assert ids(checks.sign_in_is_safe) == ["pilothouse.E011"]
    app["settings"]["server_url"] = "https://login.example.com"
    assert ids(checks.sign_in_is_safe) == []
    settings.PILOTHOUSE_KEY_MAX_DAYS = 1000
    assert ids(checks.sign_in_is_safe) == ["pilothouse.W005"]
