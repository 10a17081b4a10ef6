"""Credentials: read anew when they are renewed, and never a program that somebody else chose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from apps.kernel.errors import DriverError, InvalidInput
from apps.targets.drivers.kubernetes.connection import check_auth, check_files, configure
from apps.targets.services.drivers import driver_of
from tests.targets.kubernetes.plans import connection


def kubeconfig(folder: Path, user: dict[str, Any]) -> dict[str, str]:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://10.0.0.1:6443"}}],
        "users": [{"name": "u", "user": user}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return {"mode": "kubeconfig", "kubeconfig_file": str(path)}


def test_a_kubeconfig_with_a_token_is_read(tmp_path: Path) -> None:
    found = configure(kubeconfig(tmp_path, {"token": "t"}))
    assert found.host == "https://10.0.0.1:6443"
    assert found.retries is False


def test_a_kubeconfig_that_runs_a_program_is_refused(tmp_path: Path) -> None:
    program = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(tmp_path / "run-me")}}
    (tmp_path / "run-me").write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    (tmp_path / "run-me").chmod(0o755)
    with pytest.raises(DriverError) as refused:
        configure(kubeconfig(tmp_path, program))
    assert refused.value.code == "program_refused"
    assert not refused.value.is_retryable
    with pytest.raises(InvalidInput) as named:
        check_files(kubeconfig(tmp_path, program))
    assert named.value.fields[0].pointer == "/connection/auth/kubeconfig_file"
    assert not (tmp_path / "ran").exists()


def test_a_token_that_was_renewed_is_read_anew(tmp_path: Path) -> None:
    token = tmp_path / "token"
    auth = {"mode": "token", "server": "https://10.0.0.1", "token_file": str(token)}
    for text in ("one", "two"):
        token.write_text(f"{text}\n")
        assert configure(auth).auth_settings()["BearerToken"]["value"] == f"Bearer {text}"


def test_a_missing_file_is_named_and_may_come_back(tmp_path: Path) -> None:
    with pytest.raises(DriverError) as refused:
        configure({"mode": "token", "server": "https://10.0.0.1", "token_file": str(tmp_path / "nowhere")})
    assert refused.value.is_retryable
    assert "nowhere" in refused.value.detail


def test_a_program_runs_only_where_an_operator_allows_it(tmp_path: Path, settings: Any) -> None:
    settings.PILOTHOUSE_KUBECONFIG_PROGRAMS = True
    check_files(kubeconfig(tmp_path, {"exec": {"command": "sign-in"}}))


@pytest.mark.parametrize(
    ("auth", "pointer", "code"),
    [
        ({"mode": "kubeconfig"}, "kubeconfig_file", "required"),
        ({"mode": "kubeconfig", "kubeconfig_file": "prod.kubeconfig"}, "kubeconfig_file", "not_absolute"),
        ({"mode": "token", "token_file": "/t"}, "server", "required"),
        ({"mode": "token", "server": "http://10.0.0.1", "token_file": "/t"}, "server", "bad_url"),
        ({"mode": "token", "server": "https://me:pass@10.0.0.1", "token_file": "/t"}, "server", "bad_url"),
        ({"mode": "token", "server": "https://10.0.0.1", "token_file": "/t", "token": "s"}, "token", "unknown_field"),
        ({"mode": "in_cluster", "context": "prod"}, "context", "contradiction"),
        ({"mode": "password"}, "mode", "unknown"),
    ],
)
def test_a_connection_that_cannot_be_meant_names_its_field(auth: dict[str, str], pointer: str, code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_auth({"auth": auth})
    assert (refused.value.fields[0].pointer, refused.value.code) == (f"/connection/auth/{pointer}", code)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"route": {"hosts": ["https://models.example.com"]}}, "/connection/route/hosts"),
        ({"route": {"gateway": "public"}}, "/connection/route/gateway"),
        ({"route": {"address": "models.example.com"}}, "/connection/route/address"),
        ({"profile": {"image": "registry.example.com/{name}:1"}}, "/connection/profile/image"),
        ({"profile": {"pull_secrets": ["My Secret"]}}, "/connection/profile/pull_secrets"),
        ({"profile": {"memory": "8 gigs"}}, "/connection/profile/memory"),
        ({"namespace": "Models"}, "/connection/namespace"),
        ({"colour": "blue"}, "/connection/colour"),
    ],
)
def test_settings_that_cannot_be_meant_name_their_field(changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        driver_of("kubernetes", connection(**changes))
    assert refused.value.fields[0].pointer == pointer


def test_files_outside_the_roots_are_refused_without_a_look(tmp_path: Path, settings: Any) -> None:
    settings.PILOTHOUSE_TOKEN_ROOTS = (tmp_path / "in",)
    with pytest.raises(InvalidInput) as refused:
        check_auth({"auth": {"mode": "kubeconfig", "kubeconfig_file": "/etc/shadow"}})
    assert refused.value.code == "outside_roots"


class TestTheFilesAreLookedAtWhenATargetIsConnected:
    def test_one_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="no readable file"):
            check_files({"mode": "kubeconfig", "kubeconfig_file": str(tmp_path / "nowhere")})

    def test_a_context_that_is_not_in_it_is_told_with_those_that_are(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="no context 'prod'; there are: c") as refused:
            check_files({**kubeconfig(tmp_path, {"token": "t"}), "context": "prod"})
        assert refused.value.fields[0].pointer == "/connection/auth/context"

    def test_what_cannot_be_read_is_not_quoted(self, tmp_path: Path) -> None:
        path = tmp_path / "kubeconfig"
        path.write_text('users:\n- user: {token: "top-secret-token\n')
        auth = {"mode": "kubeconfig", "kubeconfig_file": str(path)}
        with pytest.raises(InvalidInput) as refused:
            check_files(auth)
        with pytest.raises(DriverError) as unreadable:
            configure(auth)
        for told in (refused.value.detail, unreadable.value.detail):
            assert "line" in told
            assert "top-secret" not in told
